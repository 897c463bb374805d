"""What the operator exposes: names and units by Prometheus' conventions, few series, and a page that lists them all."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modelrelease.api.reasons import Phase
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.core.observation import Poll, Samples
from modelrelease.engine import metrics_page, telemetry
from modelrelease.engine.metrics import FAMILIES, Family
from modelrelease.engine.queue import WorkQueue
from modelrelease.engine.release_series import ReleaseSeries
from tests.clients.prometheus_server import pod, prometheus
from tests.engine.releases import AT, canary, condition, returning, status

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
BY_NAME = {family.name: family for family in FAMILIES}
BOUNDED = {
    "call",
    "code",
    "kind",
    "outcome",
    "phase",
    "result",
    "sink",
    "verb",
    "verdict",
    "version",
}
"""Labels whose values come from lists that this code fixes; `version` is the operator's own, in build_info only."""
NAMED = {"namespace", "release", "check", "gate", "condition", "reason", "phase", "verdict"}
"""Labels that series of single releases may have besides."""
UNITS = re.compile(r"_(milliseconds|ms|minutes|hours|days|percent|kilobytes|megabytes|bits)(_|$)")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_name_follows_the_conventions_of_prometheus(family: Family) -> None:
    assert re.fullmatch(r"modelrelease_[a-z][a-z0-9]*(_[a-z0-9]+)*", family.name)
    assert not UNITS.search(family.name), "base units only: seconds, bytes, ratios"
    assert family.name.endswith("_total") is (family.type == "counter")
    assert family.name.endswith("_info") is (family.labels == ("version",))
    assert not family.name.endswith(("_count", "_sum", "_bucket")), "reserved for histograms"
    if family.type == "histogram":
        assert family.name.endswith("_seconds")
    if "timestamp" in family.name:
        assert family.name.endswith("_timestamp_seconds")
    assert family.text.endswith(".")
    assert not any(label in family.name.split("_") for label in ("gauge", "counter", "histogram"))
    allowed = NAMED if family.name.startswith("modelrelease_release_") else BOUNDED
    assert set(family.labels) <= allowed
    assert all(re.fullmatch("[a-z]+", label) and label != "le" for label in family.labels)


def test_every_family_of_the_list_is_exposed_and_none_besides() -> None:
    _count_everything()
    exposed = {
        (family.name + "_total" if family.type == "counter" else family.name): family
        for family in text_string_to_metric_families(generate_latest().decode())
        if family.name.startswith("modelrelease_")
    }
    assert exposed.keys() == BY_NAME.keys()
    for name, family in exposed.items():
        assert (family.type, family.documentation) == (BY_NAME[name].type, BY_NAME[name].text)


def _count_everything() -> None:
    """Touch what has labels, so that each family has a series."""
    key = ("crm", "everything")
    telemetry.api_request("get", "Pod", "200", 0.01)
    telemetry.record_created("Promoted")
    telemetry.record_exported()
    telemetry.delivery("log", "ok")
    telemetry.sink_failing("log", key, False)
    telemetry.observe_release(key, ModelReleaseStatus(), canary(5))


def test_the_page_lists_the_metrics_as_they_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert metrics_page.inserted(text) == text, "run `make docs-metrics`"


class Sample(dict[tuple[str, ...], float]):
    """Samples of one registry: {(name, *label values in the order of their names): value}."""

    def __init__(self, series: ReleaseSeries) -> None:
        registry = CollectorRegistry()
        registry.register(series)
        super().__init__()
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for name, labels, value, *_ in family.samples:
                short = name.removeprefix("modelrelease_release_")
                self[short, *(labels[label] for label in sorted(labels))] = value


def test_the_series_of_a_canary_say_what_its_status_says() -> None:
    series = ReleaseSeries()
    series.see(("crm", "churn"), canary(20))
    assert Sample(series) == {
        ("phase", "crm", "Progressing", "WaitingForEvidence", "churn"): 1,
        ("phase_since_timestamp_seconds", "crm", "churn"): AT.timestamp(),
        ("condition", "Serving", "crm", "Serving", "churn"): 1,
        ("condition", "EvidenceAvailable", "crm", "EvidenceAvailable", "churn"): 1,
        ("weight_ratio", "crm", "churn"): 0.2,
        ("check", "errors", "crm", "churn", "Waiting"): 1,
        ("check_evidence_ratio", "errors", "crm", "churn"): 0.4,
        ("gate", "accuracy", "crm", "churn", "Pass"): 1,
    }


def test_the_series_of_checks_gates_and_weight_go_with_the_candidate() -> None:
    series = ReleaseSeries()
    series.see(("crm", "churn"), canary(20))
    series.see(("crm", "churn"), canary(20).model_copy(update={"phase": "Promoted", "candidate": None}))
    assert {name for name, *_ in Sample(series)} == {"phase", "phase_since_timestamp_seconds", "condition"}


def test_a_condition_that_is_unknown_has_no_series() -> None:
    series = ReleaseSeries()
    series.see(("crm", "churn"), status("Promoted", "Promoted", condition("Serving", "Unknown", "RouteNotAccepted")))
    assert "condition" not in {name for name, *_ in Sample(series)}


@pytest.mark.parametrize(
    ("confirmed", "shown"),
    [pytest.param(False, [AT.timestamp()], id="not confirmed yet"), pytest.param(True, [], id="confirmed")],
)
def test_a_rollback_shows_since_when_no_gateway_confirms_it(confirmed: bool, shown: list[float]) -> None:
    series = ReleaseSeries()
    series.see(("crm", "churn"), returning(AT, AT + timedelta(seconds=2) if confirmed else None))
    name = "rollback_unconfirmed_since_timestamp_seconds"
    assert [value for key, value in Sample(series).items() if key[0] == name] == shown


def test_a_release_that_is_gone_leaves_no_series() -> None:
    series = ReleaseSeries()
    series.see(("crm", "churn"), canary(20))
    series.forget(("crm", "churn"))
    series.forget(("crm", "churn"))
    assert Sample(series) == {}


def test_beyond_the_limit_it_is_the_releases_at_rest_that_have_no_series() -> None:
    series = ReleaseSeries(limit=3)
    for number in range(5):
        series.see(("a", f"rest-{number}"), status("Promoted", "Promoted"))
    series.see(("z", "canary"), canary(5))
    series.see(("z", "dark"), status("Promoted", "Promoted", condition("Serving", "False", "NotServing")))
    shown = {key[-1] for key in Sample(series) if key[0] == "phase"}
    assert shown == {"canary", "dark", "rest-0"}
    omitted = telemetry.REGISTRY.get_sample_value("modelrelease_release_series_omitted")
    assert omitted == 4


def test_five_thousand_releases_make_a_bounded_number_of_series() -> None:
    series = ReleaseSeries()
    for number in range(5000):
        series.see(("team", f"release-{number}"), canary(5, phase=list(Phase)[number % 10].value))
    assert len(Sample(series)) <= 1000 * 10


def value(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def key() -> Iterator[tuple[str, str]]:
    yield ("crm", "metrics")
    telemetry.forget_release(("crm", "metrics"))


def test_a_verdict_is_counted_when_it_changes(key: tuple[str, str]) -> None:
    gates = value("modelrelease_gate_results_total", verdict="Pass")
    checks = value("modelrelease_check_results_total", verdict="Waiting")
    for before, after in ((ModelReleaseStatus(), canary(5)), (canary(5), canary(5))):
        telemetry.observe_release(key, before, after)
    assert value("modelrelease_gate_results_total", verdict="Pass") == gates + 1
    assert value("modelrelease_check_results_total", verdict="Waiting") == checks + 1


def test_the_age_of_evidence_is_counted_once_a_poll(key: tuple[str, str]) -> None:
    count, total = value("modelrelease_evidence_age_seconds_count"), value("modelrelease_evidence_age_seconds_sum")
    for at, now in ((AT, AT + timedelta(seconds=6)), (AT, AT + timedelta(seconds=9))):
        telemetry.evidence_judged(key, Samples((Poll(at, {}),)), now)
    telemetry.evidence_judged(key, Samples(), AT)
    assert value("modelrelease_evidence_age_seconds_count") == count + 1
    assert value("modelrelease_evidence_age_seconds_sum") == total + 6


async def test_the_ages_of_the_queue_are_those_of_the_moment() -> None:
    async def work(key: tuple[str, str]) -> float | None:
        return None

    async def scraped() -> float:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 200
        return value("modelrelease_queue_oldest_seconds")

    queue = WorkQueue(work)
    runner = await telemetry.serve(0, health=lambda: None, ready=lambda: None, queue=queue, host="127.0.0.1")
    assert await scraped() == 0
    queue.wake(("crm", "churn"))
    first = await scraped()
    assert await scraped() > first > 0
    queue.forget(("crm", "churn"))
    assert await scraped() == 0
    assert value("modelrelease_queue_longest_working_seconds") == 0
    await runner.cleanup()


def test_failing_sinks_are_counted_by_release() -> None:
    for name, failing in (("a", True), ("b", True), ("a", False), ("a", False)):
        telemetry.sink_failing("webhook", ("crm", name), failing)
    assert value("modelrelease_deliveries_failing", sink="webhook") == 1
    telemetry.sink_failing("webhook", ("crm", "b"), False)


def asked(url: str, path: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]


def eventually(check: Callable[[], bool], what: str) -> None:
    """Wait as long as a busy machine may take."""
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_real_prometheus_scrapes_everything_with_its_type_and_text(tmp_path: Path, key: tuple[str, str]) -> None:
    _count_everything()
    telemetry.observe_release(key, canary(5), returning(AT))
    telemetry.forget_release(("crm", "everything"))
    telemetry.observe_release(("crm", "everything"), ModelReleaseStatus(), canary(5))
    with pod("operator", "", namespace="system") as exposition, prometheus(tmp_path, exposition) as server:
        exposition.text = lambda: generate_latest().decode()
        eventually(lambda: bool(asked(server.url, "query", query="modelrelease_release_phase")), "no sample")
        eventually(
            lambda: len(asked(server.url, "query", query="modelrelease_release_phase")["result"]) >= 2, "two releases"
        )
        known = asked(server.url, "metadata")
        [sample] = asked(server.url, "query", query='modelrelease_release_weight_ratio{release="everything"}')["result"]
    for family in FAMILIES:
        said = known.get(family.name) or known[family.name.removesuffix("_total")]
        assert (said[0]["type"], said[0]["help"]) == (family.type, family.text)
    assert sample["metric"]["namespace"] == "crm", "with honorLabels, as the chart's ServiceMonitor has it"
    assert sample["value"][1] == "0.05"
    telemetry.forget_release(("crm", "everything"))
