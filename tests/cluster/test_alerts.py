"""The chart's alerts and dashboard in a real Prometheus, which scrapes what the operator itself exposes.

Every rule is loaded as the chart renders it; only the waiting times are shortened, by values. No API server is needed.
"""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from modelrelease.api.status import ModelReleaseStatus
from modelrelease.engine import telemetry
from modelrelease.engine.metrics import FAMILIES
from tests.clients.prometheus_server import Pod, Prometheus, pod
from tests.cluster.chart import CHART, find, render
from tests.engine.releases import canary, condition, returning, status

NAMESPACE, TEAM = "modelrelease-system", "crm"
DOCS = CHART.parents[1] / "docs"
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
NOW = datetime.now(UTC)
RELEASES = {
    "at-rest": status("Promoted", "Promoted"),
    "rolling": canary(20),
    "new": status("Progressing", "Starting", condition("Serving", "False", "NothingServes")),
    "dark": status("Promoted", "Promoted", condition("Serving", "False", "NotServing")),
    "stalled": returning(NOW - timedelta(minutes=10)),
    "returned": returning(NOW - timedelta(minutes=10), NOW - timedelta(minutes=9)),
    "returning": returning(NOW + timedelta(hours=1)),  # it began a moment ago, however late the test runs
    "blocked": status("Blocked", "GateFailed"),
    "held": canary(5, phase="Held", reason="Inconclusive"),
    "blind": status("Held", "NoData", condition("EvidenceAvailable", "False", "NoData")),
}
EXPECTED = {
    ("ModelReleaseNotServing", TEAM, "dark", "page", "docs/runbook.md#notserving"),
    ("ModelReleaseRollbackStalled", TEAM, "stalled", "page", "docs/runbook.md#checkfailed"),
    ("ModelReleaseBlocked", TEAM, "blocked", "ticket", "docs/runbook.md#gatefailed"),
    ("ModelReleaseHeld", TEAM, "held", "ticket", "docs/runbook.md#inconclusive"),
    ("ModelReleaseHeld", TEAM, "blind", "ticket", "docs/runbook.md#nodata"),
    ("ModelReleaseEvidenceMissing", TEAM, "blind", "ticket", "docs/runbook.md#nodata"),
    ("ModelReleaseDeliveriesFailing", "", "", "ticket", "docs/operating.md#modelreleasedeliveriesfailing"),
    ("ModelReleaseRecordBacklog", "", "", "ticket", "docs/operating.md#modelreleaserecordbacklog"),
}
DOWN = ("ModelReleaseOperatorDown", "", "", "ticket", "docs/operating.md#modelreleaseoperatordown")


def rules(*options: str) -> list[dict[str, Any]]:
    """The rules of the chart."""
    rendered = find(render("--set=prometheusRule.enabled=true", *options), "PrometheusRule")
    [group] = rendered["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@dataclass
class WithRules(Prometheus):
    """A Prometheus with the chart's rules, evaluated every second; it labels targets as a ServiceMonitor would."""

    def scrape(self, *pods: Pod) -> None:
        """As without rules."""
        super().scrape(*pods)
        soon = [f"--set=prometheusRule.alerts.{name}.for=1s" for name in ALERTS]
        group = {"name": "modelrelease", "interval": "1s", "rules": rules(*soon)}
        (self.directory / "rules.json").write_text(json.dumps({"groups": [group]}))
        path = self.directory / "prometheus.yml"
        config = json.loads(path.read_text())
        config["global"]["evaluation_interval"] = "1s"
        config["rule_files"] = [str(self.directory / "rules.json")]
        for job in config["scrape_configs"]:
            for target in job["static_configs"]:
                target.setdefault("labels", {})["namespace"] = NAMESPACE
        path.write_text(json.dumps(config))
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def firing(self) -> set[tuple[str, str, str, str, str]]:
        """Name, namespace, release, severity and runbook of all alerts that fire."""
        return {
            (
                item["labels"]["alertname"],
                item["labels"].get("namespace", "") if "release" in item["labels"] else "",
                item["labels"].get("release", ""),
                item["labels"]["severity"],
                item["annotations"]["runbook_url"],
            )
            for item in self.ask("alerts")["alerts"]
            if item["state"] == "firing"
        }


def eventually(check: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait as long as a busy machine may take."""
    end = time.monotonic() + 90
    while not check():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


def of_these_releases() -> str:
    """What this process tells, but for releases that other tests in it have left."""
    lines = generate_latest().decode().splitlines(keepends=True)
    return "".join(line for line in lines if 'namespace="' not in line or f'namespace="{TEAM}"' in line)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithRules]:
    """It scrapes this very process, as long as the module runs."""
    telemetry.leading(True)
    with pod("operator", "") as exposition:
        exposition.text = of_these_releases
        server = WithRules(tmp_path_factory.mktemp("prometheus"))
        server.scrape(exposition)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def test_each_alert_fires_for_the_release_it_is_about_and_for_no_other(prometheus: WithRules) -> None:
    for name, known in RELEASES.items():
        telemetry.observe_release((TEAM, name), ModelReleaseStatus(), known)
    telemetry.sink_failing("webhook", (TEAM, "blocked"), True)
    telemetry.records_waiting(101)
    eventually(lambda: prometheus.firing() == EXPECTED, lambda: prometheus.firing() ^ EXPECTED)
    for item in prometheus.ask("alerts")["alerts"]:
        texts = json.dumps(item["annotations"])
        assert "<no value>" not in texts
        assert "error" not in texts.lower()
        assert "{{" not in texts

    telemetry.leading(False)
    eventually(lambda: DOWN in prometheus.firing(), prometheus.firing)

    telemetry.leading(True)
    for name in RELEASES:
        telemetry.forget_release((TEAM, name))
    telemetry.sink_failing("webhook", (TEAM, "blocked"), False)
    telemetry.records_waiting(0)
    # a release that was held is remembered for ten minutes, so that a restart of the operator does not reset the clock
    held = {item for item in EXPECTED if item[0] == "ModelReleaseHeld"}
    eventually(lambda: {item[:4] for item in prometheus.firing()} == {item[:4] for item in held}, prometheus.firing)


def test_prometheus_loads_all_rules_and_evaluates_them_without_an_error(prometheus: WithRules) -> None:
    def loaded() -> list[dict[str, Any]]:
        groups = prometheus.ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    eventually(lambda: len(loaded()) == len(ALERTS), loaded)
    eventually(lambda: {rule["health"] for rule in loaded()} == {"ok"}, loaded)
    assert {rule["name"] for rule in loaded()} == {told["alert"] for told in ALERTS.values()}


def expressions() -> Iterator[tuple[str, str]]:
    """Title and query of every panel, as Grafana sends it with all namespaces and releases chosen."""
    objects = render("--set=dashboard.enabled=true")
    dashboard = json.loads(find(objects, "ConfigMap", "modelrelease-dashboard")["data"]["modelrelease.json"])
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], re.sub(r"\$(namespace|release)\b", ".*", target["expr"])


def test_prometheus_accepts_every_query_of_the_dashboard(prometheus: WithRules) -> None:
    for title, query in expressions():
        assert prometheus.ask("query", query=query)["resultType"] in ("vector", "scalar"), title


def names_in(query: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bmodelrelease_[a-z_]+", query)}


def test_dashboard_and_alerts_use_metrics_that_exist() -> None:
    known = {family.name for family in FAMILIES}
    shown = set().union(*(names_in(query) for _, query in expressions()))
    alerting = set().union(*(names_in(told["expr"] + told["runbook"]) for told in ALERTS.values()))
    assert shown - known == set()
    assert alerting - known == set()


def test_the_dashboard_fills_its_rows() -> None:
    objects = render("--set=dashboard.enabled=true")
    item = find(objects, "ConfigMap", "modelrelease-dashboard")
    assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = json.loads(item["data"]["modelrelease.json"])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_only_users_that_are_hurt_wake_somebody() -> None:
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    pages = {name for name, severity in severities.items() if severity == "page"}
    assert pages == {"ModelReleaseNotServing", "ModelReleaseRollbackStalled"}
    assert set(severities.values()) == {"page", "ticket"}
    renamed = rules("--set=prometheusRule.pageSeverity=critical,prometheusRule.ticketSeverity=warning")
    assert {rule["labels"]["severity"] for rule in renamed} == {"critical", "warning"}


def test_an_alert_can_be_left_out_and_docs_can_be_elsewhere() -> None:
    fewer = rules("--set=prometheusRule.alerts.held.enabled=false,prometheusRule.docsUrl=https://wiki.example/mr/")
    assert "ModelReleaseHeld" not in {rule["alert"] for rule in fewer}
    assert all(rule["annotations"]["runbook_url"].startswith("https://wiki.example/mr/") for rule in fewer)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_runbook_that_an_alert_named_is_there() -> None:
    for *_, runbook in (*EXPECTED, DOWN):
        page, _, anchor = runbook.partition("#")
        assert anchor in anchors(DOCS.parent / page)
