"""Parts of the screens: columns that give way, differences of revisions, redrawing, what is read of objects."""

from __future__ import annotations

from typing import Any

import pytest

from modelrelease.cli.changes import changes
from modelrelease.cli.cluster import ClusterError
from modelrelease.cli.reading import whole
from modelrelease.cli.terminal import fitted, redraw, watch
from modelrelease.cli.views.layout import Canvas, bar, columns, flowed
from modelrelease.cli.views.values import Change
from modelrelease.cli.where import places_of

from .invoke import own_process
from .scenes import told_by
from .test_main import HEAVY, RUN


def stored(**fields: Any) -> dict[str, Any]:
    """Data of a ControllerRevision."""
    return {"model": "churn", "version": "7", "runtime": "http", "ports": {"http": 80}, "drainSeconds": 60.0, **fields}


def template(**container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "server", **container}]}}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {"version": "8"}, [("model", "v7", "v8")]),
        ({}, {"model": "fraud", "version": "1"}, [("model", "churn v7", "fraud v1")]),
        ({}, {"runtime": "vllm"}, [("runtime", "http", "vllm")]),
        (
            {"template": template(image="a:1", args=["--x", "--y=1"])},
            {"template": template(image="a:2", args=["--x", "--y=2"])},
            [("server.image", "a:1", "a:2"), ("server.args", "--y=1", "--y=2")],
        ),
        (
            {"template": template(resources={"limits": {"cpu": 1}})},
            {"template": template(resources={"limits": {"cpu": 2}})},
            [("server.resources.limits.cpu", "1", "2")],
        ),
        (
            {"gates": [{"name": "auc", "min": 1}, {"name": "old"}]},
            {"gates": [{"name": "auc", "min": 2}, {"name": "new"}]},
            [("gates", "old", "new, auc edited")],
        ),
    ],
)
def test_changes_when_revisions_differ_name_each_difference(
    before: dict[str, Any], after: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    assert changes(stored(**before), stored(**after)) == tuple(Change(*item) for item in found)


def test_changes_when_a_variable_differs_keep_its_value_to_themselves() -> None:
    old = template(env=[{"name": "TOKEN", "value": "secret-1"}, {"name": "GONE", "value": "1"}])
    new = template(env=[{"name": "TOKEN", "value": "secret-2"}, {"name": "NEW", "value": "1"}])
    found = changes(stored(template=old), stored(template=new))
    assert "secret" not in str(found)
    assert [item.what for item in found] == ["server.env.GONE", "server.env.NEW", "server.env.TOKEN"]


def test_columns_when_they_are_too_wide_cut_the_one_that_gives() -> None:
    rows = [["name", "a sentence that is long"], ["longer name", "short"]]
    assert columns(rows, 25, gives=(1,)) == ["name         a sentence …", "longer name  short"]
    assert columns(rows, 80, gives=(1,))[0] == "name         a sentence that is long"


def test_columns_when_one_is_empty_take_no_room_for_it() -> None:
    assert columns([["a", "", "b"], ["c", "", "d"]], 80) == ["a  b", "c  d"]


def test_flowed_when_parts_do_not_fit_breaks_between_them() -> None:
    assert flowed(["a" * 40, "b" * 40], Canvas(80)) == ["a" * 40, "b" * 40]
    assert flowed(["a", "b"], Canvas(80)) == ["a   b"]


@pytest.mark.parametrize(
    ("percent", "letters", "drawn"), [(0, True, "░░░░"), (50, True, "██░░"), (130, True, "████"), (50, False, "##..")]
)
def test_bar_when_drawn_is_as_full_as_it_says(percent: int, letters: bool, drawn: str) -> None:
    assert bar(percent, Canvas(80, letters), 4) == drawn


def test_redraw_when_one_line_changes_writes_that_line_only() -> None:
    drawn = redraw(["one", "two", "three"], ["one", "TWO", "three"])
    assert "TWO\x1b[K\n" in drawn
    assert "one" not in drawn
    assert "three" not in drawn
    assert "\x1b[3A" in drawn


def test_redraw_when_lines_go_erases_them() -> None:
    assert "\x1b[J" in redraw(["one", "two"], ["one"])
    assert "\x1b[J" not in redraw(["one"], ["one", "two"])


def test_fitted_when_the_terminal_is_short_says_how_much_is_missing() -> None:
    assert fitted(["a", "b", "c", "d"], 3) == ["a", "b", "  ... 2 lines more"]
    assert fitted(["a", "b"], 3) == ["a", "b"]


def test_watch_when_the_cluster_goes_away_keeps_the_screen_until_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    left: list[BaseException | tuple[str, int]] = [
        ("all is well", 0),
        ("all is well", 0),
        ClusterError("connection refused"),
        ("users are hurt", 1),
        KeyboardInterrupt(),
    ]

    def draw() -> tuple[str, int]:
        found = left.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    assert watch(draw, pause_s=0) == 1
    printed = capsys.readouterr().out
    assert printed.count("all is well") == 2  # once, and once more with the note
    assert printed.count("NOT REFRESHED since") == 1
    assert printed.endswith("users are hurt\n")
    assert "\x1b" not in printed


def test_watch_when_nothing_was_ever_read_fails() -> None:
    def draw() -> tuple[str, int]:
        raise ClusterError("connection refused")

    with pytest.raises(ClusterError):
        watch(draw, pause_s=0)


@pytest.mark.parametrize("verb", ["status", "list", "explain", "history", "record", "where"])
def test_start_when_a_reading_verb_runs_imports_neither_kopf_nor_mlflow(verb: str) -> None:
    loaded = f"{RUN}; print('LOADED', [name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
    words = [verb] if verb == "list" else [verb, "churn"]
    answer = own_process(loaded, *words, "--kubeconfig", "/nonexistent/config")
    assert (answer.code, answer.out) == (2, "LOADED []\n")
    assert answer.err.count("\n") == 1


def test_places_when_a_release_serves_and_tries_versions_tell_both() -> None:
    release = told_by("held-evidence").release
    found = [(place.version, place.role, place.weight) for place in places_of(release, "churn", "", {})]
    assert found == [("7", "serves", 80), ("8", "tried", 20)]
    assert places_of(release, "fraud", "", {}) == []
    stable = release.status.stable
    assert stable is not None
    models = {("crm", f"churn-{stable.key}"): "fraud"}
    assert [place.version for place in places_of(release, "fraud", "", models)] == ["7"]


class Read:
    """A reading that has ended."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value

    def value(self) -> dict[str, Any]:
        return self._value

    def value_or(self, missing: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._value


def test_approvals_when_people_have_spoken_are_those_of_the_candidate_under_its_rules() -> None:
    from modelrelease.cli.begun import Begun
    from modelrelease.cli.cluster import Cluster

    status = told_by("held-evidence").release.status
    candidate = status.candidate
    assert candidate is not None

    def approval(name: str, rules: str) -> dict[str, Any]:
        spec = {
            "release": "churn",
            "revision": candidate.revision,
            "rules": rules,
            "gate": "sign-off",
            "decision": "Approve",
            "approver": {"username": name},
            "comment": "looks well",
        }
        return {"metadata": {"name": name, "creationTimestamp": "2026-01-01T11:59:00Z"}, "spec": spec}

    body = {
        "metadata": {"name": "churn", "namespace": "crm", "uid": "u", "generation": 1},
        "spec": {},
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    items = [approval("ann", candidate.rules), approval("bob", "0000000000")]
    begun: Any = Begun(Read(body), approvals=Read({"items": items}))  # type: ignore[arg-type]
    _, release = whole(Cluster("crm"), begun)
    assert [(item.user, item.decision, item.words) for item in release.approvals] == [("ann", "Approve", "looks well")]
