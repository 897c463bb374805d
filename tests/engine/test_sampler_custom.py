"""Queries of one's own on a real Prometheus: what a bad one does to its own check, and to nothing else."""

from __future__ import annotations

import pytest

from e2e.fault_proxy import FaultProxy
from modelrelease.core.evidence import Counts
from modelrelease.core.wants import Measure, Queries, SampleWant
from modelrelease.engine.queue import Key
from tests.clients.prometheus_server import Pod, Prometheus, pod, undisturbed
from tests.engine.sampling import BAD, ERRORS, GOOD, KEY, now, sampling, total, until, want

pytestmark = pytest.mark.long

OWN = Measure("own", custom=Queries('t_total{pod=~"$(pods)"}', "b_total{pod=~'$(pods)',rev!='$(revision)'}"))


@pytest.mark.parametrize(
    ("total_query", "words"),
    [
        pytest.param("sum(t_total{pod=~'$(pods)'}", "refused a query (HTTP 400)", id="no PromQL"),
        pytest.param("sum(t_total{pod=~'$(pods)'})", "series without the label pod", id="no pod"),
        pytest.param("many_total{pod=~`$(pods)`}", "gave more than 1,000 series", id="too many series"),
    ],
)
@undisturbed
async def test_a_bad_query_of_ones_own_fails_alone(
    server: Prometheus, pods: tuple[Pod, Pod], total_query: str, words: str
) -> None:
    stable, canary = pods
    canary.samples |= {f'many_total{{user="u{number}"}}': 1 for number in range(1100)}
    canary.samples["t_total"] = stable.samples["t_total"] = 100
    seen = [one.scrapes for one in pods]
    await until(lambda: all(one.scrapes > was + 1 for one, was in zip(pods, seen, strict=True)))
    bad = Measure("bad", custom=Queries(total_query, "b_total{pod=~'$(pods)'}"))
    async with sampling(server.url, timeout_s=10) as sampler:
        sampler.want(KEY, want(measures=(ERRORS, OWN, bad)))
        await until(lambda: words in getattr(sampler.samples(KEY).problem, "message", ""))
        await until(lambda: bool(sampler.samples(KEY).polls))
        canary.add("t_total", 8)
        canary.add("b_total", 2)
        canary.add(GOOD, 10)
        await until(lambda: total(sampler, "bbbb", "own") == Counts(8, 2))
        await until(lambda: total(sampler, "bbbb") == Counts(10, 0))
        samples = sampler.samples(KEY)

    assert total(sampler, "bbbb", "bad") == Counts(0, 0)
    assert samples.problem is not None
    assert samples.problem.message.startswith("check bad: its query for total")


@undisturbed
async def test_a_query_of_ones_own_that_hangs_delays_neither_its_release_nor_others(
    server: Prometheus, proxy: FaultProxy, pods: tuple[Pod, Pod]
) -> None:
    other: Key = ("team", "other")
    proxy.only = b"t_total"
    proxy.mode = "hang"
    with pod("o1", "oooo", release="other") as third:
        third.samples = {GOOD: 1}
        server.scrape(*pods, third)
        await until(lambda: third.scrapes > 1)
        async with sampling(proxy.url) as sampler:
            sampler.want(KEY, want(measures=(ERRORS, OWN)))
            sampler.want(other, SampleWant(*other, {"oooo": (ERRORS,)}, now()))
            await until(lambda: len(sampler.samples(KEY).polls) >= 2 and len(sampler.samples(other).polls) >= 2)
            pods[1].add(BAD, 6)
            await until(lambda: total(sampler, "bbbb") == Counts(6, 6))
            hanging, healthy = sampler.samples(KEY).problem, sampler.samples(other).problem

    assert healthy is None
    assert hanging is not None
    assert hanging.message.startswith("check own: its query for total: ")
