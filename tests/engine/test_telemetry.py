"""Probes and metrics over real HTTP, log lines, and what is counted about releases."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from modelrelease.api.reasons import Reason
from modelrelease.api.status import HistoryEntry, ModelReleaseStatus, RollbackStatus
from modelrelease.core.observation import AliasTarget, Lookup, Missing, Unavailable
from modelrelease.core.version_facts import Part
from modelrelease.core.wants import AliasWrite
from modelrelease.engine import telemetry

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
KEY = ("crm", "churn")


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Server:
    """The HTTP server on a free port, with problems that a test sets."""

    health: str | None = None
    ready: str | None = None
    url: str = ""

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, await response.text()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = await telemetry.serve(0, health=lambda: server.health, ready=lambda: server.ready, host="127.0.0.1")
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def test_probes_answer_ok_or_the_problem(server: Server) -> None:
    assert await server.get("/healthz") == (200, "ok\n")
    assert await server.get("/readyz") == (200, "ok\n")
    server.ready = "the releases are being listed"
    assert await server.get("/readyz") == (503, "the releases are being listed\n")
    assert await server.get("/healthz") == (200, "ok\n")
    server.health = "a pass has been running for 301 s"
    assert await server.get("/healthz") == (503, "a pass has been running for 301 s\n")


async def test_metrics_are_served_with_every_phase(server: Server) -> None:
    telemetry.api_request("patch", "ModelRelease", "409", 0.01)
    status, text = await server.get("/metrics")
    assert status == 200
    assert 'modelrelease_api_requests_total{code="409",kind="ModelRelease",verb="patch"}' in text
    for phase in ("Pending", "Blocked", "RollingBack", "Promoted"):
        assert f'modelrelease_releases{{phase="{phase}"}}' in text
    assert 'modelrelease_build_info{version="' in text


def test_queue_metrics_count_passes_and_depth() -> None:
    before = value("modelrelease_reconcile_total", result="error")
    observer = telemetry.QueueMetrics()
    observer.began(0.2)
    observer.changed(3, 1)
    observer.ended("error", 0.5)
    assert value("modelrelease_reconcile_total", result="error") == before + 1
    assert value("modelrelease_queue_depth") == 3
    assert value("modelrelease_queue_working") == 1


@pytest.fixture
def release() -> Iterator[tuple[str, str]]:
    yield KEY
    telemetry.forget_release(KEY)


def history(outcome: str, version: str) -> HistoryEntry:
    return HistoryEntry(
        version=version, revision="r", outcome=outcome, reason="x", message="", started_at=AT, ended_at=AT
    )


def test_releases_are_counted_by_their_present_phase(release: tuple[str, str]) -> None:
    baking, promoted = value("modelrelease_releases", phase="Baking"), value("modelrelease_releases", phase="Promoted")
    first, second = ModelReleaseStatus(phase="Baking"), ModelReleaseStatus(phase="Promoted")
    telemetry.observe_release(release, first, first)
    telemetry.observe_release(release, first, first)
    assert value("modelrelease_releases", phase="Baking") == baking + 1
    telemetry.observe_release(release, first, second)
    assert value("modelrelease_releases", phase="Baking") == baking
    assert value("modelrelease_releases", phase="Promoted") == promoted + 1
    telemetry.forget_release(release)
    telemetry.forget_release(release)
    assert value("modelrelease_releases", phase="Promoted") == promoted


def test_a_rollout_and_a_rollback_are_counted_once(release: tuple[str, str]) -> None:
    rolled_back = value("modelrelease_rollouts_total", outcome="RolledBack")
    count, total = value("modelrelease_rollback_seconds_count"), value("modelrelease_rollback_seconds_sum")
    decided: dict[str, Any] = {"version": "2", "revision": "r", "reason": "x", "message": "", "decided_at": AT}
    start = ModelReleaseStatus(phase="Progressing", history=(history("Promoted", "1"),))
    verdict = start.model_copy(update={"phase": "RollingBack", "last_rollback": RollbackStatus(**decided)})
    ended = verdict.model_copy(
        update={
            "phase": "RolledBack",
            "history": (history("RolledBack", "2"), *start.history),
            "last_rollback": RollbackStatus(**decided, routed_at=AT, seconds=1.5),
        }
    )
    for before, after in ((start, verdict), (verdict, ended), (ended, ended)):
        telemetry.observe_release(release, before, after)
    assert value("modelrelease_rollouts_total", outcome="RolledBack") == rolled_back + 1
    assert value("modelrelease_rollback_seconds_count") == count + 1
    assert value("modelrelease_rollback_seconds_sum") == total + 1.5


RUN = frozenset({Part.RUN})


class Registry:
    def read_version(self, model: str, version: str, parts: frozenset[Part], source: str = "") -> Lookup:
        return Missing(Reason.VERSION_NOT_FOUND, "no such version")

    def read_alias(self, model: str, alias: str) -> AliasTarget | Missing | Unavailable:
        return AliasTarget("7", AT)

    def read_aliases(
        self, wanted: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], AliasTarget | Missing] | Unavailable:
        return {pair: AliasTarget("7", AT) for pair in wanted}

    def write_alias(self, write: AliasWrite) -> AliasTarget | Missing | Unavailable:
        return Unavailable(Reason.REGISTRY_UNREACHABLE, "no route")


def test_calls_of_the_registry_are_counted_by_outcome_and_passed_on() -> None:
    registry = telemetry.CountedRegistry(Registry())
    outcomes = {"read_version": "VersionNotFound", "read_alias": "ok", "write_alias": "RegistryUnreachable"}
    before = {
        call: value("modelrelease_registry_requests_total", call=call, outcome=outcome)
        for call, outcome in outcomes.items()
    }
    assert registry.read_version("churn", "9", RUN) == Registry().read_version("churn", "9", RUN)
    assert registry.read_alias("churn", "champion") == AliasTarget("7", AT)
    assert isinstance(registry.write_alias(AliasWrite("churn", "champion", "7")), Unavailable)
    for call, outcome in outcomes.items():
        assert value("modelrelease_registry_requests_total", call=call, outcome=outcome) == before[call] + 1


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a logger of the operator writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(telemetry.JsonLines())
    logger = logging.getLogger("modelrelease")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = propagate


def test_a_decision_is_one_line_that_says_from_where_to_where_and_why(lines: io.StringIO) -> None:
    telemetry.log_decision(
        KEY, generation=4, old="Progressing", new="RollingBack", reason="CheckFailed", note="errors: 2.9 % vs 0.4 %"
    )
    (line,) = lines.getvalue().splitlines()
    seen = json.loads(line)
    assert datetime.fromisoformat(seen.pop("time")).tzinfo is not None
    assert seen == {
        "level": "info",
        "logger": "modelrelease.decisions",
        "message": "errors: 2.9 % vs 0.4 %",
        "key": "crm/churn",
        "generation": 4,
        "from": "Progressing",
        "to": "RollingBack",
        "reason": "CheckFailed",
    }


def test_a_failure_is_one_line_with_its_traceback(lines: io.StringIO) -> None:
    error = ValueError("zwei\nZeilen")
    logging.getLogger("modelrelease.engine.queue").error("pass failed", exc_info=error, extra={"key": "crm/churn"})
    (line,) = lines.getvalue().splitlines()
    assert "ValueError: zwei\nZeilen" in json.loads(line)["traceback"]
