"""Each preset against its server's exposition, scraped by a real Prometheus: what is counted is what was served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelrelease.api.checks import Check
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint
from modelrelease.core.evidence import Counts
from modelrelease.core.measures import measures, refused
from modelrelease.core.observation import PodPoll
from modelrelease.core.revision import Revision, desired
from modelrelease.core.wants import SampleWant
from modelrelease.engine.sampler import Sampler
from modelrelease.presets import PRESETS, preset
from tests.api.builders import spec, workload
from tests.clients.prometheus_server import Pod, Prometheus, pod, prometheus
from tests.presets.servers import FastApi, Go, Server, Sglang, Triton, Vllm

pytestmark = pytest.mark.long

SERVERS: dict[str, tuple[str, type[Server]]] = {
    "fastapi": ("http", FastApi),
    "go": ("http", Go),
    "vllm": ("vllm", Vllm),
    "sglang": ("sglang", Sglang),
    "triton": ("triton", Triton),
}

BEFORE = [(200, 0.1, 0.02, 0.5)] * 7 + [(500, 0.1, 0.02, 0.5)] * 2
"""Served before anybody looked: status, first token, each token, whole, in seconds."""

SERVED = (
    [(200, 0.09, 0.02, 0.3)] * 20
    + [(200, 0.45, 0.06, 0.9)] * 6
    + [(200, 0.9, 0.12, 1.2)] * 4
    + [(200, 1.7, 0.16, 2.2)] * 2
    + [(200, 3.0, 0.5, 5.0)] * 3
    + [(500, 0.1, 0.02, 0.2)] * 5
    + [(404, 0.1, 0.02, 0.01)] * 4
)
"""35 good ones, 5 that the server failed, 4 that it did not know the model of."""

EXPECTED: dict[str, dict[str, tuple[Counts, ...]]] = {
    # latency at the bucket 1 s: 4 + 2 + 3 slower ones
    "fastapi": {
        "errors": (Counts(44, 5),),
        "client-errors": (Counts(44, 4),),
        "latency": (Counts(44, 9),),
        "requestDuration": (Counts(44, 9),),
    },
    "go": {
        "errors": (Counts(44, 5),),
        "client-errors": (Counts(44, 4),),
        "latency": (Counts(44, 9),),
        "requestDuration": (Counts(44, 9),),
    },
    # first token beyond 1, 0.5 and 2.5 s; time per token beyond 100, 50 and 200 ms
    "vllm": {
        "errors": (Counts(44, 5),),
        "client-errors": (Counts(44, 4),),
        "ttft": (Counts(35, 5), Counts(35, 9), Counts(35, 3)),
        "tpot": (Counts(35, 9), Counts(35, 15), Counts(35, 3)),
        "requestDuration": (Counts(35, 9),),
        "timeToFirstToken": (Counts(35, 5),),
        "timePerOutputToken": (Counts(35, 0),),
        "queueTime": (Counts(35, 3),),
    },
    # first token beyond 1, 0.4 and 2 s
    "sglang": {
        "errors": (Counts(44, 5),),
        "client-errors": (Counts(44, 4),),
        "ttft": (Counts(35, 5), Counts(35, 15), Counts(35, 3)),
        "requestDuration": (Counts(35, 9),),
        "timeToFirstToken": (Counts(35, 5),),
        "queueTime": (Counts(35, 3),),
    },
    # unknown models are not seen; the first response beyond 500 ms, as 1 s is no bound
    "triton": {"errors": (Counts(40, 5),), "timeToFirstToken": (Counts(35, 9),)},
}
GAUGES = {
    "fastapi": {},
    "go": {"runningRequests": 3.0},
    "vllm": {"kvCacheUsage": 0.25, "waitingRequests": 2.0, "runningRequests": 3.0},
    "sglang": {"kvCacheUsage": 0.25, "waitingRequests": 2.0, "runningRequests": 3.0},
    "triton": {"waitingRequests": 2.0},
}
IN_FLIGHT = {"fastapi": None, "go": 3, "vllm": 5, "sglang": 5, "triton": 2}
PROGRESS = {"fastapi": 44, "go": 44, "vllm": 35 * 120, "sglang": 35 * 120, "triton": 35 * 4}


def revision_of(runtime: str, version: str) -> Revision:
    """With the preset's default checks, and one check for each histogram and each gauge that it knows."""
    made = desired("chat", ModelReleaseSpec.model_validate(spec(workload=workload(runtime=runtime))), None, version)
    more = [{"name": "c", "latency": {"metric": name, "slowerThan": "1s"}} for name in made.preset.histograms]
    more += [{"name": "c", "gauge": {"metric": name, "tolerance": 1}} for name in made.preset.gauges]
    named = [
        Check.model_validate(item).model_copy(update={"name": (item.get("latency") or item["gauge"])["metric"]})
        for item in more
    ]
    return replace(made, checks=(*made.checks, *named))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, dict[str, tuple[Pod, Server]]]]:
    """One Prometheus and one pod of each server, which has served something already."""
    made: dict[str, tuple[Pod, Server]] = {}
    with pod("c", "x") as a, pod("c", "x") as b, pod("c", "x") as c, pod("c", "x") as d, pod("c", "x") as e:
        for (name, (runtime, kind)), one in zip(SERVERS.items(), (a, b, c, d, e), strict=True):
            server = kind()
            one.release, one.revision, one.text = name, revision_of(runtime, "8").revision, server.text
            for status, first_s, token_s, whole_s in BEFORE:
                server.answer(status, first_s=first_s, token_s=token_s, whole_s=whole_s)
            server.noise()
            made[name] = (one, server)
        directory = tmp_path_factory.mktemp("prometheus")
        with prometheus(directory, *(one for one, _ in made.values()), scrape_interval_s=0.5) as running:
            yield running, made


@pytest.mark.parametrize("name", SERVERS)
async def test_every_check_of_the_preset_counts_what_was_served(
    served: tuple[Prometheus, dict[str, tuple[Pod, Server]]], name: str
) -> None:
    running, (one, server) = served[0], served[1][name]
    made = revision_of(SERVERS[name][0], "8")
    arms = {made.revision: measures(made, made)}
    want = SampleWant(
        "team",
        name,
        arms,
        datetime.now(UTC),
        in_flight={made.revision: made.preset.in_flight},
        progress={made.revision: made.preset.progress},
    )
    sampler = Sampler(
        PrometheusClient(PrometheusEndpoint(running.url)),
        lambda _: None,
        lambda: datetime.now(UTC),
        tick_s=1,
        lag_s=0.5,
    )
    task = asyncio.create_task(sampler.run())
    try:
        key = ("team", name)
        sampler.want(key, want)
        await _until(lambda: bool(sampler.samples(key).polls), one)
        for number, (status, first_s, token_s, whole_s) in enumerate(SERVED):
            server.answer(status, first_s=first_s, token_s=token_s, whole_s=whole_s)
            if number % 10 == 0:
                server.noise()
                await asyncio.sleep(0.2)
        server.load(3, 2, 0.25)

        def found() -> dict[str, tuple[Counts, ...]]:
            return _totals([poll.arms[made.revision]["c"] for poll in sampler.samples(key).polls])

        await _until(lambda: found() == EXPECTED[name], one, found)
        last = one.scrapes
        await _until(lambda: one.scrapes > last + 5, one)
        samples = sampler.samples(key)
    finally:
        task.cancel()
        await sampler.close()

    polls = [poll.arms[made.revision]["c"] for poll in samples.polls]
    assert {check.name for check in preset(SERVERS[name][0]).checks} <= EXPECTED[name].keys()
    assert _totals(polls) == EXPECTED[name]
    assert dict(polls[-1].gauges) == GAUGES[name]
    assert polls[-1].in_flight == IN_FLIGHT[name]
    assert sum(poll.progress or 0 for poll in polls) == PROGRESS[name]
    missing = set(preset(SERVERS[name][0]).gauges) - set(GAUGES[name])
    assert (samples.problem is None) == (not missing), samples.problem


def _totals(polls: list[PodPoll]) -> dict[str, tuple[Counts, ...]]:
    found: dict[str, tuple[Counts, ...]] = {}
    for poll in polls:
        for check, counts in poll.counts.items():
            before = found.get(check, (Counts(0, 0),) * len(counts))
            found[check] = tuple(
                Counts(one.total + other.total, one.bad + other.bad) for one, other in zip(before, counts, strict=True)
            )
    return found


async def _until(
    holds: Callable[[], bool], one: Pod, seen: Callable[[], object] = lambda: "nothing", seconds: float = 60
) -> None:
    """Wait for what is about to happen."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{one.release}: {seen()}"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("runtime", PRESETS)
def test_default_checks_can_be_counted_and_the_blind_spot_is_said(runtime: str) -> None:
    made, own = PRESETS[runtime], revision_of(runtime, "8")
    assert [measure.check for measure in measures(own, own) if measure.lacks] == []
    assert made.cannot_see
    assert made.cannot_see[0].islower(), "it is said within a sentence"
    assert made.checks[0].error_rate is not None


@pytest.mark.parametrize(
    ("runtime", "check", "words"),
    [
        ("sglang", {"latency": {"metric": "timePerOutputToken", "slowerThan": "1s"}}, "has no latency timePerOutputT"),
        ("http", {"latency": {"metric": "queueTime", "slowerThan": "1s"}}, "it has requestDuration"),
        ("triton", {"errorRate": {"of": "client"}}, "the runtime triton does not count client errors"),
        ("http", {"gauge": {"metric": "kvCacheUsage", "tolerance": 0.1}}, "has no gauge kvCacheUsage"),
    ],
    ids=["no such latency", "what there is", "no client errors", "no such gauge"],
)
def test_a_check_that_the_runtime_cannot_answer_is_refused(runtime: str, check: dict[str, object], words: str) -> None:
    asked = ModelReleaseSpec.model_validate(spec(workload=workload(runtime=runtime), checks=[{"name": "c", **check}]))
    message = refused(asked, ())
    assert message is not None
    assert message.startswith("spec.checks: check c: ")
    assert words in message


def test_a_raw_metric_may_be_a_gauge_of_any_runtime() -> None:
    asked = spec(checks=[{"name": "c", "gauge": {"metric": "DCGM_FI_DEV_FB_USED", "tolerance": 10}}])
    assert refused(ModelReleaseSpec.model_validate(asked), ()) is None
