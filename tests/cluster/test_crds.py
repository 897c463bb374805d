"""The CRDs on a real API server: what each rule and bound accepts, and what a person reads when it refuses.

Each case changes one thing about the smallest spec. `says` is what `kubectl` prints, word for word: these messages are
the documentation that people see most.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import ClusterError, wait_until
from modelrelease.api.crd import crds
from modelrelease.api.status import ModelReleaseStatus
from tests.api.builders import phases, release, workload
from tests.docs.kstatus import status_of

ROOT = Path(__file__).parents[2]
GATE = {"name": "auc", "metric": {"name": "auc", "min": 0.9}}
CHECK = {"name": "errors", "errorRate": {"max": 0.05}}


@pytest.fixture(scope="module")
def server(apiserver: ControlPlane) -> ControlPlane:
    """The API server with the committed CRDs Established: their schemas are structural and their rules affordable."""
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    names = [f"crd/{crd['metadata']['name']}" for crd in crds().values()]
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    wait_until("mr is served", lambda: "mr" in apiserver.kubectl("api-resources", "--cached=false"), 30)
    return apiserver


@pytest.fixture(scope="module")
def namespace(server: ControlPlane) -> Iterator[str]:
    name = f"crds-{uuid4().hex[:8]}"
    server.kubectl("create", "namespace", name)
    yield name
    server.kubectl("delete", "modelreleases", "--all", "-n", name)
    server.kubectl("delete", "namespace", name, "--wait=false")


def create(server: ControlPlane, namespace: str, body: dict[str, Any], *options: str) -> str:
    """What kubectl prints; raises ClusterError with what it says when the API server refuses."""
    return server.kubectl("create", "-n", namespace, *options, "-f", "-", input=json.dumps(body))


def policy(name: str = "shared", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ReleasePolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def gate(**kind: Any) -> dict[str, Any]:
    return release(gates=[{"name": "g", **kind}])


def check(**kind: Any) -> dict[str, Any]:
    return release(checks=[{"name": "c", **kind}])


def rollout(**fields: Any) -> dict[str, Any]:
    return release(rollout=fields)


def model(**fields: Any) -> dict[str, Any]:
    return release(model={"name": "churn", **fields})


ACCEPTED = [
    pytest.param(release(), id="the smallest release"),
    pytest.param(model(version="7"), id="a version that is a string"),
    pytest.param(model(alias="champion"), id="an alias in place of a version"),
    pytest.param(release("a" * 52), id="a name of 52 characters"),
    pytest.param(rollout(phases=phases(5, 20, 50, 100)), id="phases that rise to 100"),
    pytest.param(rollout(phases=phases(*range(1, 16), 100)), id="as many phases as allowed"),
    pytest.param(rollout(phases=phases(100)), id="a single phase"),
    pytest.param(
        rollout(phases=[*phases(5), {"name": "even", "weight": 50, "parity": True}, *phases(5, 50, 100)[1:]]),
        id="a phase of parity whose limit is the next phase's weight",
    ),
    pytest.param(rollout(phases=[]), id="an empty list of phases"),
    pytest.param(rollout(bake={"duration": "1h30m", "holdback": 5}, progressDeadline="500ms"), id="durations"),
    pytest.param(gate(metric={"name": "auc", "min": 0.5, "max": 0.5}), id="min equal to max"),
    pytest.param(gate(metric={"name": "loss", "champion": {"maxRise": 0}}), id="a champion bound of 0"),
    pytest.param(gate(slices={"metric": "recall", "min": 0.8, "required": ["night"]}), id="a slice gate"),
    pytest.param(
        release(
            gates=[
                {"name": "a", "lineage": {"require": ["dataset", "gitCommit", "run", "cleanTree", "features"]}},
                {"name": "b", "dataset": {"maxAgeDays": 30, "min": {"completeness": 1}, "requireDocumentation": True}},
                {"name": "c", "signature": {"compatibleWith": "champion"}},
                {"name": "d", "evaluatedWith": {}},
                {"name": "e", "tags": {"validation_status": "approved"}},
                {"name": "f", "tag": {"name": "risk", "oneOf": ["low", "medium"]}},
                {"name": "g", "artifact": {}},
            ]
        ),
        id="gates on what the registry tells",
    ),
    pytest.param(gate(tags={f"{n}".zfill(250): "v" * 500 for n in range(16)}), id="as many tags as allowed"),
    pytest.param(check(errorRate={}), id="an error rate with default margins"),
    pytest.param(check(errorRate={"max": 0.5, "minPolls": 1}), id="a tripwire"),
    pytest.param(check(latency={"slowerThan": "250ms", "margin": {"relative": 1}}), id="a latency check with a margin"),
    pytest.param(
        check(latency={"metric": "timeToFirstToken", "slowerThan": "1s", "alsoSlowerThan": ["500ms", "2s"]}),
        id="a latency at three bounds",
    ),
    pytest.param(check(errorRate={"of": "client"}), id="client errors"),
    pytest.param(check(score={"metric": "confidence", "min": 0.7}), id="a score"),
    pytest.param(check(winRate={"wins": "w", "ties": "t", "judgements": "j"}), id="a win rate"),
    pytest.param(check(gauge={"metric": "kvCacheUsage", "tolerance": 0.1}), id="a gauge"),
    pytest.param(
        check(custom={"total": 't{pod=~"$(pods)"}', "bad": 'b{rev="$(revision)"}', "max": 0.1}), id="own queries"
    ),
    pytest.param(release(workload=workload(runtime="vllm")), id="another runtime"),
    pytest.param(
        release(model={"name": "churn", "alias": "candidate"}, registry={"setAlias": "champion"}),
        id="setAlias that is not the followed alias",
    ),
    pytest.param(
        release(
            workload=workload(
                metadata={"labels": {"team.modelrelease.dev/x": "y"}}, env=[{"name": "MODEL", "value": "x"}]
            )
        ),
        id="labels and variables that only look like reserved ones",
    ),
    pytest.param(
        release(
            gates=[{"name": f"g{n}", "metric": {"name": "auc", "min": 0}} for n in range(32)],
            checks=[{"name": f"c{n}", "errorRate": {"max": 0.5}} for n in range(16)],
        ),
        id="as many gates and checks as allowed",
    ),
    pytest.param(policy(), id="a policy that shares nothing"),
    pytest.param(
        policy(
            registry={"url": "https://mlflow.example:5000/path", "secretRef": {"name": "mlflow"}},
            prometheus={"url": "http://p", "tenant": "ml-$(namespace)"},
        ),
        id="a policy with endpoints of its own",
    ),
    pytest.param(policy(gates=[GATE], checks=[CHECK], phases=phases(10, 100)), id="a policy"),
]


@pytest.mark.parametrize("body", ACCEPTED)
def test_it_is_accepted(server: ControlPlane, namespace: str, body: dict[str, Any]) -> None:
    assert "created" in create(server, namespace, body, "--dry-run=server")


REFUSED = [
    # what an API server refuses by itself
    pytest.param(release(colour="red"), 'unknown field "spec.colour"', id="an unknown field"),
    pytest.param(
        rollout(bake={"time": "1m"}), 'unknown field "spec.rollout.bake.time"', id="an unknown field further down"
    ),
    pytest.param(
        release(suspend="yes"), 'spec.suspend in body must be of type boolean: "string"', id="a string for a boolean"
    ),
    pytest.param(
        rollout(phases=[{"name": "a", "weight": "100"}]),
        'spec.rollout.phases[0].weight in body must be of type integer: "string"',
        id="a string for a number",
    ),
    pytest.param(release(workload=None), "spec.workload: Required value", id="no workload"),
    pytest.param(
        release(workload=workload(runtime="tgi")),
        'spec.workload.runtime: Unsupported value: "tgi": supported values: "http", "vllm", "sglang", "triton"',
        id="an unknown runtime",
    ),
    pytest.param(
        release(workload=workload(replicas=0)),
        "spec.workload.replicas in body should be greater than or equal to 1",
        id="no replicas",
    ),
    pytest.param(
        rollout(phases=phases(101)),
        "spec.rollout.phases[0].weight in body should be less than or equal to 100",
        id="weight 101",
    ),
    pytest.param(
        check(errorRate={"max": 1}), "spec.checks[0].errorRate.max in body should be less than 1", id="max of 1"
    ),
    pytest.param(
        check(errorRate={"max": 0}), "spec.checks[0].errorRate.max in body should be greater than 0", id="max of 0"
    ),
    pytest.param(
        release(gates=[GATE, GATE]), 'spec.gates[1]: Duplicate value: {"name":"auc"}', id="two gates of one name"
    ),
    pytest.param(
        release(checks=[CHECK, CHECK]),
        'spec.checks[1]: Duplicate value: {"name":"errors"}',
        id="two checks of one name",
    ),
    pytest.param(
        rollout(phases=[*phases(5), {"name": "p0", "weight": 100}]),
        'spec.rollout.phases[1]: Duplicate value: {"name":"p0"}',
        id="two phases of one name",
    ),
    pytest.param(
        release(gates=[{"name": f"g{n}", "metric": {"name": "auc", "min": 0}} for n in range(33)]),
        "spec.gates: Too many: 33: must have at most 32 items",
        id="a gate too many",
    ),
    pytest.param(release(traffic={}), "set exactly one of gateway and httpRoute", id="no traffic"),
    pytest.param(
        release(traffic={"gateway": {"parentRefs": []}}),
        "spec.traffic.gateway.parentRefs in body should have at least 1 items",
        id="no gateway",
    ),
    pytest.param(
        release(traffic={"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["no host"]}}),
        "spec.traffic.gateway.hostnames[0] in body should match",
        id="a host name with a space",
    ),
    # names
    pytest.param(
        release("a" * 53),
        "metadata.name must have at most 52 characters: other objects are named after it",
        id="a name of 53 characters",
    ),
    pytest.param(
        release("7churn"),
        "metadata.name: lower-case letters, digits and hyphens only, starting with a letter "
        "and not ending with a hyphen",
        id="a name that starts with a digit",
    ),
    pytest.param(
        release("churn.crm"),
        "metadata.name: lower-case letters, digits and hyphens only",
        id="a name with a dot, which Kubernetes allows",
    ),
    pytest.param(
        policy("llm.default"),
        "metadata.name: lower-case letters, digits and hyphens only",
        id="a policy's name that policyRef could not say",
    ),
    pytest.param(
        policy("p" * 64), "metadata.name must have at most 63 characters", id="a policy's name of 64 characters"
    ),
    # the model
    pytest.param(
        model(version=7, alias="champion"), "spec.model: Invalid value: set exactly one of version and alias", id="both"
    ),
    pytest.param(model(), "spec.model: Invalid value: set exactly one of version and alias", id="neither"),
    pytest.param(model(version=0), "version must be a whole number above 0, as MLflow counts versions", id="version 0"),
    pytest.param(
        model(version="v7"), "as MLflow counts versions; to follow an alias, set alias", id="a version that is a word"
    ),
    pytest.param(
        release(model={"name": "churn", "alias": "champion"}, registry={"setAlias": "champion"}),
        "registry.setAlias must differ from the followed model.alias",
        id="setAlias equal to the followed alias",
    ),
    # the workload
    pytest.param(
        release(workload={"template": {"spec": {"containers": []}}}),
        "spec.workload.template.spec.containers in body should have at least 1 items",
        id="a template without containers",
    ),
    pytest.param(
        release(workload={"template": {}}), "spec.workload.template.spec: Required value", id="a template without a pod"
    ),
    pytest.param(
        release(workload=workload(metadata={"labels": {"modelrelease.dev/name": "x"}})),
        "template.metadata.labels: Invalid value: keys under modelrelease.dev/ are reserved for the operator",
        id="a reserved label",
    ),
    pytest.param(
        release(workload=workload(metadata={"annotations": {"modelrelease.dev/sequence": "1"}})),
        "template.metadata.annotations: Invalid value: keys under modelrelease.dev/ are reserved for the operator",
        id="a reserved annotation",
    ),
    pytest.param(
        release(workload=workload(env=[{"name": "MODEL_URI", "value": "x"}])),
        "containers[0].env: Invalid value: MODEL_NAME, MODEL_VERSION and MODEL_URI are set by the operator",
        id="a reserved variable",
    ),
    # gates
    pytest.param(
        gate(metric={"name": "auc", "min": 0.5}, slices={"metric": "recall", "min": 0.5}),
        "spec.gates[0]: Invalid value: a gate must set exactly one of metric, slices",
        id="a gate of two kinds",
    ),
    pytest.param(gate(), "a gate must set exactly one of metric, slices", id="a gate of no kind"),
    pytest.param(
        gate(metric={"name": "auc"}),
        "spec.gates[0].metric: Invalid value: set at least one of min, max and champion",
        id="a gate without bounds",
    ),
    pytest.param(
        gate(slices={"metric": "recall"}),
        "spec.gates[0].slices: Invalid value: set at least one of min, max, champion and maxSpread",
        id="a slice gate without bounds",
    ),
    pytest.param(gate(metric={"name": "auc", "min": 2, "max": 1}), "min must not be above max", id="min above max"),
    pytest.param(
        gate(dataset={"context": "training"}),
        "set at least one of maxAgeDays, min, maxSyntheticShare and requireDocumentation",
        id="a gate on data that asks nothing",
    ),
    pytest.param(
        gate(tag={"name": "risk", "equals": "low", "present": True}),
        "set exactly one of equals, oneOf and present",
        id="a tag in two ways",
    ),
    pytest.param(gate(tags={"": "v"}), "a name must have 1 to 250 characters", id="a tag without a name"),
    pytest.param(gate(tags={f"t{n}": "v" for n in range(17)}), "spec.gates[0].tags: Too many: 17", id="a tag too many"),
    pytest.param(gate(lineage={"require": ["author"]}), 'Unsupported value: "author"', id="lineage of another kind"),
    pytest.param(
        gate(slices={"metric": "recall", "min": 2, "max": 1.5}),
        "min must not be above max",
        id="min above max on slices",
    ),
    pytest.param(
        gate(slices={"metric": "recall", "min": 0, "match": "slice"}),
        "match must contain exactly one *, which stands for the name of the slice",
        id="a match without a star",
    ),
    pytest.param(
        gate(metric={"name": "auc", "champion": {"maxDrop": 0.1, "maxRise": 0.1}}),
        "set exactly one of maxDrop, maxRise, maxDropPercent and maxRisePercent",
        id="maxDrop and maxRise",
    ),
    pytest.param(
        gate(metric={"name": "auc", "champion": {}}),
        "set exactly one of maxDrop, maxRise, maxDropPercent and maxRisePercent",
        id="an empty champion",
    ),
    pytest.param(
        gate(metric={"name": "auc", "min": 0.5, "datasetDigest": "d"}),
        "datasetDigest needs dataset",
        id="a digest of no data set",
    ),
    pytest.param(
        gate(slices={"metric": "recall", "champion": {"maxDrop": 0.1}, "evidence": "noRegression"}),
        "noRegression and nonInferior need samples or standardErrors",
        id="evidence without samples",
    ),
    pytest.param(
        gate(slices={"metric": "recall", "min": 0.1, "samples": "slice/*/n", "evidence": "nonInferior"}),
        "noRegression and nonInferior need champion: they compare with what serves",
        id="evidence without a champion",
    ),
    pytest.param(
        gate(slices={"metric": "recall", "min": 0.1, "samples": "n"}),
        "samples and standardErrors must contain exactly one *, for example slice/*/n",
        id="samples without a star",
    ),
    pytest.param(
        gate(slices={"metric": "recall", "min": 0.1, "datasets": "holdout"}),
        "datasets must contain exactly one *, which stands for the name of the slice",
        id="datasets without a star",
    ),
    pytest.param(
        gate(slices={"metric": "recall", "min": 0.1, "datasets": "holdout-*", "dataset": "holdout"}),
        "set datasets or dataset, not both",
        id="datasets and dataset",
    ),
    pytest.param(
        gate(winRate={"metric": "win_rate", "samples": "n", "slices": "locale"}),
        "slices must contain exactly one *, which stands for the name of the slice",
        id="slices of a win rate without a star",
    ),
    pytest.param(
        gate(winRate={"metric": "win_rate", "samples": "n", "judge": {}}),
        "set at least one of minAgreement, minAnnotators, minHumanShare, maxTieShare and sameAs",
        id="a judge without rules",
    ),
    pytest.param(
        gate(winRate={"metric": "win_rate", "samples": "n", "judge": {"sameAs": "nobody"}}),
        "spec.gates[0].winRate.judge.sameAs in body should match '^champion$'",
        id="a judge that is nobody's",
    ),
    pytest.param(
        gate(metric={"name": "auc", "min": 0.5}, onRevoked="Panic"),
        'supported values: "Hold", "Rollback"',
        id="an unknown onRevoked",
    ),
    # checks
    pytest.param(
        check(errorRate={"margin": {}, "max": 0.5}),
        "spec.checks[0].errorRate: Invalid value: set margin (against stable) or max (absolute), not both",
        id="an error rate with margin and max",
    ),
    pytest.param(
        check(latency={"slowerThan": "1s", "margin": {}, "max": 0.5}),
        "spec.checks[0].latency: Invalid value: set margin (against stable) or max (absolute), not both",
        id="a latency with margin and max",
    ),
    pytest.param(
        check(errorRate={"minPolls": 1}), "minPolls belongs to max; margins keep the default", id="minPolls without max"
    ),
    pytest.param(
        check(score={"metric": "c", "margin": {}, "min": 0.5}),
        "set margin (against stable) or min (absolute), not both",
        id="margin and min of a score",
    ),
    pytest.param(
        check(score={"metric": "loss", "higherIsBetter": False, "min": 0.5}),
        "min needs a score of which higher is better",
        id="the least of a loss",
    ),
    pytest.param(
        check(custom={"total": "t", "bad": "b{pod=~'$(pods)'}"}),
        "total must select a revision's pods by $(pods) or $(revision)",
        id="own queries of all pods",
    ),
    pytest.param(
        check(custom={"total": "t{pod=~'$(pods)'}", "bad": "b"}),
        "bad must select a revision's pods by $(pods) or $(revision)",
        id="own bad ones of all pods",
    ),
    pytest.param(
        check(errorRate={}, latency={"slowerThan": "1s"}),
        "a check must set exactly one of errorRate, latency, score, winRate, gauge and custom",
        id="a check of two kinds",
    ),
    pytest.param(
        check(latency={}), "spec.checks[0].latency.slowerThan: Required value", id="a latency without a bound"
    ),
    # phases and durations
    pytest.param(
        rollout(phases=phases(50, 5, 100)),
        "spec.rollout.phases: Invalid value: the weights of phases must rise from phase to phase, starting above 0",
        id="phases that fall",
    ),
    pytest.param(rollout(phases=phases(5, 5, 100)), "must rise from phase to phase", id="phases that stay"),
    pytest.param(
        rollout(phases=[{"name": "even", "weight": 100, "parity": True}]),
        "the last phase cannot have parity: it is all traffic",
        id="parity of all traffic",
    ),
    pytest.param(
        rollout(phases=[{"name": "even", "weight": 60, "parity": True}, *phases(50, 100)]),
        "must rise from phase to phase",
        id="a phase of parity whose limit is above the next phase",
    ),
    pytest.param(rollout(phases=phases(0, 100)), "starting above 0", id="a phase of weight 0"),
    pytest.param(
        rollout(phases=phases(5, 50)), "the last phase must have weight 100", id="phases that do not end at 100"
    ),
    pytest.param(
        policy(enforce={"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In"}]}}),
        "values are needed by In and NotIn, and by nothing else",
        id="a selector without values",
    ),
    pytest.param(policy(phases=phases(5, 50)), "the last phase must have weight 100", id="a policy that ends at 50"),
    pytest.param(
        policy(registry={"name": "eu", "url": "http://mlflow:5000"}),
        "set exactly one of name and url",
        id="an endpoint named in two ways",
    ),
    pytest.param(policy(prometheus={}), "set exactly one of name and url", id="an endpoint that is not named"),
    pytest.param(
        policy(registry={"name": "eu", "secretRef": {"name": "mlflow"}}),
        "secretRef belongs to url; what is named has its own credentials",
        id="a Secret for an endpoint of the operator",
    ),
    pytest.param(
        policy(prometheus={"name": "mimir", "tenant": "ml"}), "tenant belongs to url", id="a tenant of the operator's"
    ),
    pytest.param(
        policy(registry={"url": "https://me:pw@mlflow"}),
        "not an http:// or https:// URL without user, query and fragment",
        id="a password in a URL",
    ),
    pytest.param(
        rollout(bake={"duration": "10 min"}),
        'bake.duration: Invalid value: "10 min": not a duration; write for example 30s, 10m, 1h30m or 500ms',
        id="a duration in other words",
    ),
    pytest.param(
        rollout(phases=[{"name": "a", "weight": 100, "timeout": "9999999d"}]),
        'spec.rollout.phases[0].timeout: Invalid value: "9999999d": not a duration',
        id="a duration of a geological age",
    ),
    pytest.param(
        rollout(bake={"duration": 600}),
        'spec.rollout.bake.duration in body must be of type string: "integer"',
        id="seconds",
    ),
    pytest.param(
        rollout(bake={"duration": "1h" * 9}), "spec.rollout.bake.duration: Too long", id="a duration that does not end"
    ),
]


@pytest.mark.parametrize(("body", "says"), REFUSED)
def test_it_is_refused_in_words(server: ControlPlane, namespace: str, body: dict[str, Any], says: str) -> None:
    with pytest.raises(ClusterError) as refused:
        create(server, namespace, body, "--dry-run=server")
    assert says in str(refused.value)


def test_every_rule_of_the_crds_is_seen_refusing() -> None:
    """A rule that no case trips is a rule nobody has seen work. Those on changes are seen where the kind is changed."""
    said = "\n".join(case.values[1] for case in REFUSED)  # type: ignore[misc]
    silent = [
        rule["message"]
        for rule in rules(crds())
        if "oldSelf" not in rule["rule"] and not any(part in said for part in parts(rule["message"]))
    ]
    assert silent == []


def rules(node: Any) -> Iterator[dict[str, str]]:
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", [])
        for child in node.values():
            yield from rules(child)
    elif isinstance(node, list):
        for child in node:
            yield from rules(child)


def parts(message: str) -> list[str]:
    return [message, *message.split("; "), *message.split(", ")]


def test_the_api_server_writes_the_defaults_that_the_schema_carries(server: ControlPlane, namespace: str) -> None:
    body = release(checks=[{"name": "c", "latency": {"slowerThan": "1s", "margin": {}}}], rollout={"bake": {}})
    live = json.loads(create(server, namespace, body, "--dry-run=server", "-o", "json"))["spec"]
    assert live["rollout"] == {"bake": {"duration": "30m"}, "onInconclusive": "Hold", "progressDeadline": "30m"}
    assert live["checks"][0]["latency"]["margin"] == {"absolute": 0.01, "relative": 1.25}
    assert "replicas" not in live["workload"]
    assert "gates" not in live


def test_scale_sets_the_replicas_and_reads_pods_and_selector_from_status(server: ControlPlane, namespace: str) -> None:
    create(server, namespace, release("scaled"))
    write_status(server, namespace, "scaled", ModelReleaseStatus(replicas=2, selector="modelrelease.dev/name=scaled"))
    server.kubectl("scale", "-n", namespace, "mr/scaled", "--replicas=3")
    path = f"/apis/modelrelease.dev/v1alpha1/namespaces/{namespace}/modelreleases/scaled"
    scale = json.loads(server.kubectl("get", "--raw", f"{path}/scale"))
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 2, "selector": "modelrelease.dev/name=scaled"}
    live = read(server, namespace, "mr/scaled")
    assert live["spec"]["workload"]["replicas"] == 3


def test_scale_refuses_what_the_schema_refuses(server: ControlPlane, namespace: str) -> None:
    create(server, namespace, release("unscaled"))
    with pytest.raises(ClusterError, match="should be greater than or equal to 1"):
        server.kubectl("scale", "-n", namespace, "mr/unscaled", "--replicas=0")


def test_kubectl_get_prints_the_story_of_a_release(server: ControlPlane, namespace: str) -> None:
    create(server, namespace, release("ranker"))
    status = ModelReleaseStatus.model_validate(
        {
            "phase": "RollingBack",
            "summary": {
                "serving": "8 6/6",
                "candidate": "9 2/2",
                "step": "3/4 half",
                "weight": "0%",
                "why": "errors 2.9% vs 0.4%, draining",
                "since": "2026-01-01T00:00:00Z",
            },
        }
    )
    write_status(server, namespace, "ranker", status)
    header, row = server.kubectl("get", "-n", namespace, "mr", "ranker").splitlines()
    assert header.split() == ["NAME", "SERVING", "CANDIDATE", "PHASE", "STEP", "WEIGHT", "WHY", "FOR"]
    cells = [row[start:end].strip() for start, end in columns(header)]
    assert cells[:-1] == ["ranker", "8 6/6", "9 2/2", "RollingBack", "3/4 half", "0%", "errors 2.9% vs 0.4%, draining"]
    assert cells[-1][:-1].isdigit()
    assert cells[-1].endswith(("d", "y"))
    wide = server.kubectl("get", "-n", namespace, "mr", "ranker", "-o", "wide").splitlines()[0]
    assert wide.split()[-2:] == ["MODEL", "AGE"]


def columns(header: str) -> list[tuple[int, int | None]]:
    starts = [header.index(word) for word in header.split()]
    return list(zip(starts, [*starts[1:], None], strict=True))


def test_kubectl_get_all_lists_a_release_with_what_it_made(server: ControlPlane, namespace: str) -> None:
    create(server, namespace, release("listed"))
    assert "modelrelease.modelrelease.dev/listed" in server.kubectl("get", "all", "-n", namespace)


def test_kubectl_explain_speaks_of_every_level(server: ControlPlane) -> None:
    text = server.kubectl("explain", "modelrelease.spec.gates.metric.champion")
    assert "maxDrop" in text
    assert "may be lower than the" in text


def test_a_status_as_big_as_allowed_is_stored_and_read_back(server: ControlPlane, namespace: str) -> None:
    create(server, namespace, release("full"))
    schema = crds()["modelreleases"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    status = fill(schema["properties"]["status"], "status")
    written = json.dumps({"status": status}, ensure_ascii=False)
    patch_status(server, namespace, "full", written)
    assert read(server, namespace, "mr/full")["status"] == status
    model_read = ModelReleaseStatus.model_validate(status)
    assert json.loads(model_read.model_dump_json(by_alias=True)) == status


def test_a_status_with_unknown_fields_loses_them_and_is_stored(server: ControlPlane, namespace: str) -> None:
    """An operator that is newer than the CRDs can work; what it lost is gone after a restart only."""
    create(server, namespace, release("newer"))
    patch_status(server, namespace, "newer", '{"status": {"phase": "Gating", "mood": "good"}}')
    assert read(server, namespace, "mr/newer")["status"] == {"observedGeneration": -1, "phase": "Gating"}


def read(server: ControlPlane, namespace: str, name: str) -> Any:
    return json.loads(server.kubectl("get", "-n", namespace, name, "-o", "json"))


def fill(schema: dict[str, Any], seed: str) -> Any:
    """The largest value that a schema allows, with letters of two bytes where text may hold them."""
    match schema["type"]:
        case "object":
            return {name: fill(child, f"{seed}{name}") for name, child in schema["properties"].items()}
        case "array":
            key = schema.get("x-kubernetes-list-map-keys", [""])[0]
            items = [fill(schema["items"], seed) for _ in range(schema["maxItems"])]
            return [item | {key: f"{number:ü>128}"} for number, item in enumerate(items)] if key else items
        case "string" if "enum" in schema:
            return max(schema["enum"], key=len)
        case "string" if "format" in schema:
            return "2026-01-01T00:00:00.123Z"
        case "string":
            return "ü" * schema["maxLength"]
        case "boolean":
            return False
        case "integer":
            return 2**31 - 1  # the scale subresource reads 32 bits
        case _:
            return 0.12345678901234567


def write_status(server: ControlPlane, namespace: str, name: str, status: ModelReleaseStatus) -> None:
    patch_status(
        server, namespace, name, status.model_dump_json(by_alias=True, exclude_none=True).join(('{"status":', "}"))
    )


def patch_status(server: ControlPlane, namespace: str, name: str, patch: str) -> None:
    server.kubectl(
        "patch",
        "-n",
        namespace,
        f"mr/{name}",
        "--subresource=status",
        "--type=merge",
        "--patch-file=/dev/stdin",
        input=patch,
    )


def test_a_release_that_the_operator_has_not_seen_is_not_taken_for_ready(server: ControlPlane, namespace: str) -> None:
    created = json.loads(create(server, namespace, release(name="unseen"), "-o", "json"))
    live = json.loads(server.kubectl("get", "mr", "unseen", "-n", namespace, "-o", "json"))
    assert live["status"] == {"observedGeneration": -1}
    assert [status_of(created), status_of(live)] == ["InProgress", "InProgress"]
    ModelReleaseStatus.model_validate(live["status"])
