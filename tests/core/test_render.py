"""What should exist for a status: names, environment, ports, selectors and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import CandidateStatus, ModelReleaseStatus, Stage
from modelrelease.core.render import Child, Monitoring, deployment, labels, render
from modelrelease.core.revision import Revision
from tests.api.builders import workload
from tests.core.builders import HEALTHY, Release, fresh, idle, release, revision, spec

NAME, REVISION = "modelrelease.dev/name", "modelrelease.dev/revision"


def rendered(case: Release, live: Mapping[str, Any] | None = None) -> dict[str, Mapping[str, Any]]:
    """Children of a release by kind and name."""
    return by_name(render(case.spec, case.status, case.obs.revisions, "churn", live))


def by_name(children: tuple[Child, ...]) -> dict[str, Mapping[str, Any]]:
    """Bodies by kind and name."""
    return {f"{child.kind} {child.name}": child.body for child in children}


def runs(**fields: Any) -> Revision:
    """A revision of a workload."""
    return revision("8", spec(workload=workload(**fields)))


def container(made: Revision, number: int = 0, kind: str = "containers") -> dict[str, Any]:
    """A container of a rendered Deployment."""
    return dict(deployment(made, 2).body["spec"]["template"]["spec"][kind][number])


def weights(route: Mapping[str, Any]) -> dict[str, int]:
    """Weights by Service."""
    return {ref["name"]: ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]}


def test_a_release_in_mid_rollout_has_two_of_each_and_one_route() -> None:
    old, new = revision("7"), revision("8")
    assert set(rendered(release(0))) == {
        f"Deployment churn-{old.revision}",
        f"Deployment churn-{new.revision}",
        "Service churn-a",
        "Service churn-b",
        "HTTPRoute churn",
        "PodMonitor churn",
    }


def test_nothing_exists_before_a_revision_is_named() -> None:
    assert render(spec(), ModelReleaseStatus(), {}, "churn") == ()


def test_a_candidate_that_is_being_gated_has_no_pods() -> None:
    assert f"Deployment churn-{revision('8').revision}" not in rendered(release(0, Stage.GATING))


def test_the_model_stands_first_in_every_container_before_the_variables_that_use_it() -> None:
    made = runs(env=[{"name": "ARGS", "value": "--model=$(MODEL_URI)"}])
    assert container(made)["env"] == [
        {"name": "MODEL_NAME", "value": "churn"},
        {"name": "MODEL_VERSION", "value": "8"},
        {"name": "MODEL_URI", "value": "models:/m-8"},
        {"name": "ARGS", "value": "--model=$(MODEL_URI)"},
    ]


def test_init_containers_get_the_model_too() -> None:
    template = {"spec": {"containers": [{"name": "server"}], "initContainers": [{"name": "fetch"}]}}
    made = revision("8", spec(workload={"template": template}))
    assert [item["name"] for item in container(made, kind="initContainers")["env"]] == [
        "MODEL_NAME",
        "MODEL_VERSION",
        "MODEL_URI",
    ]


def test_a_dollar_in_the_models_source_is_not_expanded() -> None:
    made = replace(runs(), uri="s3://bucket/$(HOME)/m")
    assert container(made)["env"][2] == {"name": "MODEL_URI", "value": "s3://bucket/$$(HOME)/m"}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (workload(metadata={"labels": {NAME: "x"}}), "reserved for the operator"),
        (workload(metadata={"annotations": {"modelrelease.dev/sequence": "1"}}), "reserved for the operator"),
        (workload(env=[{"name": "MODEL_URI", "value": "x"}]), "sets MODEL_URI, which the operator sets"),
    ],
    ids=["a label of ours", "an annotation of ours", "a variable of ours"],
)
def test_what_is_reserved_is_refused_before_anything_is_rendered(template: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec(workload=template)


def test_pods_keep_their_own_labels_beside_ours() -> None:
    made = runs(metadata={"labels": {"team": "crm"}})
    body = deployment(made, 2).body["spec"]
    assert body["selector"]["matchLabels"] == {NAME: "churn", REVISION: made.revision}
    assert body["template"]["metadata"]["labels"] == {"team": "crm", NAME: "churn", REVISION: made.revision}


def test_the_template_of_the_revision_is_not_changed_by_rendering() -> None:
    made = runs()
    before = repr(made.template)
    deployment(made, 2)
    assert repr(made.template) == before


def test_names_and_selectors_come_from_the_stored_revision() -> None:
    case = idle(7)
    stored = replace(revision("7"), release="churn", revision="feedbeef00")
    assert case.status.stable is not None
    stable = case.status.stable.model_copy(update={"revision": "feedbeef00"})
    status = case.status.model_copy(update={"stable": stable})
    children = by_name(render(case.spec, status, {stored.key: stored}, "churn"))
    assert children["Deployment churn-feedbeef00"]["spec"]["selector"]["matchLabels"][REVISION] == "feedbeef00"
    assert children["Service churn-a"]["spec"]["selector"] == {NAME: "churn", REVISION: "feedbeef00"}


@pytest.mark.parametrize(
    "edited",
    [
        spec(8),
        spec(7, workload=workload(env=[{"name": "X", "value": "1"}])),
        spec(7, workload={**workload(), "drainTimeout": "9m", "ports": {"http": 9}}),
        spec(7, gates=[]),
    ],
    ids=["another version", "another template", "other ports", "other gates"],
)
def test_nothing_of_what_serves_changes_when_the_spec_is_edited(edited: ModelReleaseSpec) -> None:
    case = idle(7)
    assert rendered(replace(case, spec=edited)) == rendered(case)


def test_the_route_says_what_the_status_says() -> None:
    route = rendered(release(1))["HTTPRoute churn"]
    assert weights(route) == {"churn-a": 50, "churn-b": 50}
    assert route["spec"]["parentRefs"] == [{"name": "edge"}]
    assert route["spec"]["hostnames"] == ["churn.example"]


def test_there_is_no_route_before_anything_may_be_served() -> None:
    assert "HTTPRoute churn" not in rendered(fresh(8).decided())


def test_without_a_readable_spec_only_the_weights_of_the_live_route_change() -> None:
    live = dict(rendered(release(1))["HTTPRoute churn"])
    rule = {**live["spec"]["rules"][0], "matches": [{"path": {"value": "/v1"}}]}
    live = {**live, "spec": {**live["spec"], "rules": [rule]}}
    case = release(0).broken()
    route = rendered(case, live)["HTTPRoute churn"]
    assert weights(route) == {"churn-a": 80, "churn-b": 20}
    assert route["spec"]["rules"][0]["matches"] == [{"path": {"value": "/v1"}}]
    assert route["spec"]["parentRefs"] == [{"name": "edge"}]
    assert "HTTPRoute churn" not in rendered(case)


def test_a_drained_revision_is_kept_without_pods() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY).later(300).decided()
    assert rendered(case)[f"Deployment churn-{revision('7').revision}"]["spec"]["replicas"] == 0


def test_children_carry_nothing_that_argo_cd_or_helm_track() -> None:
    for body in rendered(release(0)).values():
        found = {*body["metadata"].get("labels", {}), *body["metadata"].get("annotations", {})}
        assert "app.kubernetes.io/instance" not in found
        assert not {key for key in found if "argocd" in key or "helm" in key}


def test_a_revision_keeps_its_mark_from_the_first_canary_to_the_last_drain() -> None:
    mark = "modelrelease.dev/since"
    case = release(2, Stage.BAKING).see(samples=HEALTHY)
    name = f"Deployment churn-{revision('8').revision}"
    promoted = case.later(300).decided()
    assert promoted.status.candidate is None
    assert rendered(case)[name]["metadata"]["labels"][mark] == rendered(promoted)[name]["metadata"]["labels"][mark]


def test_another_attempt_marks_a_deployment_that_already_looks_as_it_should() -> None:
    case = release(0, Stage.STARTING)
    again = replace(case, status=case.status.model_copy(update={"candidate": later_attempt(case)}))
    name = f"Deployment churn-{revision('8').revision}"
    assert rendered(case)[name]["spec"] == rendered(again)[name]["spec"]
    assert rendered(case)[name]["metadata"] != rendered(again)[name]["metadata"]


def later_attempt(case: Release) -> CandidateStatus:
    """The same candidate, begun a second later."""
    assert case.status.candidate is not None
    return case.status.candidate.model_copy(update={"started_at": case.now + timedelta(seconds=1)})


def test_a_monitor_carries_the_labels_and_the_interval_that_the_operator_is_told() -> None:
    case = release(0)
    told = Monitoring({"release": "prometheus", NAME: "cannot be changed"}, "10s")
    children = render(case.spec, case.status, case.obs.revisions, "churn", None, told)
    [body] = [child.body for child in children if child.kind == "PodMonitor"]
    assert body["metadata"]["labels"] == {"release": "prometheus", **labels("churn")}
    assert {endpoint["interval"] for endpoint in body["spec"]["podMetricsEndpoints"]} == {"10s"}


def test_on_somebody_elses_route_both_slots_send_to_the_port_on_which_what_serves_listens() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY).later(300).decided()
    assert case.status.traffic is not None
    assert case.status.stable is not None
    stable, shared = case.status.stable, case.status.traffic.model_copy(update={"route": "edge"})
    status = case.status.model_copy(update={"traffic": shared})
    moved = replace(revision("8"), http_port=9000)
    children = by_name(render(case.spec, status, {**case.obs.revisions, moved.key: moved}, "churn"))
    for slot in ("a", "b"):
        service = children[f"Service churn-{slot}"]["spec"]
        assert service["selector"] == {NAME: "churn", REVISION: stable.revision}, slot
        assert service["ports"][0]["targetPort"] == 9000, slot
