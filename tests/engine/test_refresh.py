"""engine.refresh on virtual time, with a registry whose answers and silences the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.clients.registry import Down
from modelrelease.core.observation import AliasTarget, Lookup, Missing, ModelVersion, RegistryView, Unavailable
from modelrelease.core.version_facts import Part
from modelrelease.core.wants import AliasWrite, RegistryWant
from modelrelease.engine.refresh import Alias, RegistryRefresher

pytestmark = pytest.mark.virtual_time

START = datetime(2030, 1, 1, tzinfo=UTC)
A, B = ("team", "a"), ("team", "b")
DOWN = Unavailable(Reason.REGISTRY_UNREACHABLE, "the registry refuses connections")


def now() -> datetime:
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Pool(Executor):
    """Runs each look-up at once, or holds it back while `hung`."""

    def __init__(self) -> None:
        self.hung = False
        self.held: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.held.append((future, lambda: fn(*args, **kwargs)))
        if not self.hung:
            self.let_go()
        return future

    def let_go(self) -> None:
        """Run what is held back."""
        held, self.held = self.held, []
        for future, call in held:
            try:
                future.set_result(call())
            except ZeroDivisionError as error:
                future.set_exception(error)


@dataclass
class FakeRegistry:
    """One model's versions and aliases; every call is written down with its time in seconds."""

    aliases: dict[str, str] = field(default_factory=dict)
    problem: Unavailable | None = None
    write_problem: Unavailable | None = None
    search_problem: Unavailable | None = None
    unseen: frozenset[str] = frozenset()
    status: str = "READY"
    bug: bool = False
    calls: list[tuple[float, str, str]] = field(default_factory=list)

    def _note(self, what: str, name: str) -> None:
        self.calls.append((asyncio.get_running_loop().time(), what, name))

    def read_version(self, model: str, version: str, parts: frozenset[Part], source: str = "") -> Lookup:
        self._note("version", version)
        if self.bug:
            raise ZeroDivisionError
        if version == "404":
            return Missing(Reason.VERSION_NOT_FOUND, "no such version")
        return self.problem or ModelVersion(model, version, "s3://b/m", self.status, now(), parts=parts)

    def read_alias(self, model: str, alias: str) -> Alias:
        self._note("alias", alias)
        if self.problem:
            return self.problem
        if alias not in self.aliases:
            return Missing(Reason.ALIAS_NOT_FOUND, "no such alias")
        return AliasTarget(self.aliases[alias], now())

    def read_aliases(
        self, wanted: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], AliasTarget | Missing] | Unavailable:
        self._note("aliases", " ".join(sorted(f"{model}/{alias}" for model, alias in wanted)))
        if problem := self.problem or self.search_problem:
            return problem
        gone = Missing(Reason.ALIAS_NOT_FOUND, "no such alias")
        return {
            (model, alias): AliasTarget(self.aliases[alias], now()) if alias in self.aliases else gone
            for model, alias in wanted
            if model not in self.unseen
        }

    def write_alias(self, write: AliasWrite) -> Alias:
        self._note("write", f"{write.alias}={write.version}")
        if problem := self.problem or self.write_problem:
            return problem
        if self.aliases.get(write.alias) != write.version and write.only_from in (None, self.aliases.get(write.alias)):
            self.aliases[write.alias] = write.version or ""
        return AliasTarget(self.aliases[write.alias], now())

    def times(self, what: str) -> list[float]:
        return [time for time, called, _ in self.calls if called == what]


@dataclass
class World:
    """A refresher that runs, the registry behind it and the wakes that it gave."""

    registry: FakeRegistry
    pool: Pool
    refresher: RegistryRefresher
    woken: list[tuple[float, str]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    woken: list[tuple[float, str]] = []
    registry, pool = FakeRegistry(), Pool()
    refresher = RegistryRefresher(
        registry,
        lambda key: woken.append((asyncio.get_running_loop().time(), key[1])),
        now,
        threads=2,
        pool=pool,
    )
    running = asyncio.create_task(refresher.run())
    yield World(registry, pool, refresher, woken)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await refresher.close()


def want(
    *versions: str, aliases: tuple[str, ...] = (), max_age: float = 60, write: AliasWrite | None = None
) -> RegistryWant:
    return RegistryWant("m", frozenset(versions), frozenset(aliases), timedelta(seconds=max_age), write)


async def test_nothing_is_known_before_the_first_answer(world: World) -> None:
    world.pool.hung = True
    world.refresher.want(A, want("7", aliases=("champion",)))
    await asyncio.sleep(500)

    assert world.refresher.view(A) == RegistryView(model="m")
    assert world.woken == []


async def test_an_answer_is_shown_at_once_and_wakes_its_release(world: World) -> None:
    world.registry.aliases["champion"] = "6"
    world.refresher.want(A, want("7", "404", aliases=("champion", "other")))
    await asyncio.sleep(1)

    view = world.refresher.view(A)
    assert view.versions == {
        "7": ModelVersion("m", "7", "s3://b/m", "READY", at(0)),
        "404": Missing(Reason.VERSION_NOT_FOUND, "no such version"),
    }
    assert view.aliases == {
        "champion": AliasTarget("6", at(0)),
        "other": Missing(Reason.ALIAS_NOT_FOUND, "no such alias"),
    }
    assert set(world.woken) == {(0, "a")}


async def test_a_value_is_read_anew_at_half_its_age_and_wakes_nobody_unless_it_changed(world: World) -> None:
    world.refresher.want(A, want("7"))
    await asyncio.sleep(100)
    world.registry.status = "FAILED_REGISTRATION"
    await asyncio.sleep(100)

    assert world.registry.times("version") == [0, 30, 60, 90, 120, 150, 180]
    assert world.woken == [(0, "a"), (120, "a")]


async def test_releases_share_one_look_up(world: World) -> None:
    world.pool.hung = True
    world.refresher.want(A, want("7"))
    world.refresher.want(B, want("7"))
    await asyncio.sleep(1)
    world.pool.hung = False
    world.pool.let_go()
    await asyncio.sleep(1)

    assert len(world.registry.calls) == 1
    assert world.woken == [(1, "a"), (1, "b")]


async def test_a_release_that_comes_later_sees_what_is_known_and_is_woken_for_it(world: World) -> None:
    world.refresher.want(A, want("7"))
    await asyncio.sleep(10)
    world.refresher.want(B, want("7"))

    assert "7" in world.refresher.view(B).versions
    assert world.woken == [(0, "a"), (10, "b")]
    await asyncio.sleep(10)
    assert world.registry.times("version") == [0]


async def test_a_release_that_wants_more_of_a_version_sees_nothing_that_was_read_for_less(world: World) -> None:
    more = {"7": frozenset({Part.RUN, Part.MODEL_FILE})}
    world.refresher.want(A, want("7"))
    await asyncio.sleep(10)
    world.pool.hung = True
    world.refresher.want(B, replace(want("7"), parts=more))

    assert world.refresher.view(A).versions.keys() == {"7"}
    assert world.refresher.view(B).versions == {}
    world.pool.hung = False
    world.pool.let_go()
    await asyncio.sleep(1)
    assert world.registry.times("version") == [0, 10], "read at once, and once for both"
    for key in (A, B):
        found = world.refresher.view(key).versions["7"]
        assert isinstance(found, ModelVersion)
        assert found.parts == more["7"]


async def test_a_release_that_wants_more_while_less_is_being_read_is_read_for_next(world: World) -> None:
    world.pool.hung = True
    world.refresher.want(A, want("7"))
    await asyncio.sleep(10)
    world.refresher.want(B, replace(want("7"), parts={"7": frozenset({Part.FILES})}))
    world.pool.hung = False
    world.pool.let_go()
    await asyncio.sleep(1)

    assert world.refresher.view(B).versions.keys() == {"7"}
    assert len(world.registry.times("version")) == 2


async def test_the_most_impatient_release_sets_the_pace(world: World) -> None:
    world.refresher.want(A, want("7", max_age=600))
    await asyncio.sleep(20)
    world.refresher.want(B, want("7", max_age=10))
    assert world.refresher.view(B) == RegistryView(model="m"), "too old for it, and no failure: being read"
    await asyncio.sleep(12)

    assert world.registry.times("version") == [0, 20, 25, 30]


async def test_failures_are_retried_ever_more_slowly_and_a_success_starts_over(world: World) -> None:
    world.registry.problem = DOWN
    world.refresher.want(A, want("7"))
    await asyncio.sleep(100)
    world.registry.problem = None
    await asyncio.sleep(60)

    assert world.registry.times("version") == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151]
    assert world.woken == [(0, "a"), (121, "a")], "the same failure is told once"


async def test_a_first_look_up_that_fails_is_unavailable_since_then(world: World) -> None:
    world.registry.problem = DOWN
    world.refresher.want(A, want("7", aliases=("champion",)))
    await asyncio.sleep(50)

    view = world.refresher.view(A)
    assert view.versions == {"7": replace(DOWN, since=at(0))}
    assert view.aliases == {"champion": replace(DOWN, since=at(0))}


async def test_a_known_value_outlives_an_outage_until_it_is_too_old(world: World) -> None:
    world.refresher.want(A, want("7"))
    await asyncio.sleep(1)
    world.registry.problem = DOWN
    await asyncio.sleep(58)
    assert isinstance(world.refresher.view(A).versions["7"], ModelVersion)
    await asyncio.sleep(2)

    assert world.refresher.view(A).versions == {"7": replace(DOWN, since=at(30))}
    await asyncio.sleep(30)
    assert [who for _, who in world.woken] == ["a", "a"], "it is woken once for the change"


async def test_a_hung_look_up_holds_one_thread_and_delays_no_other(world: World) -> None:
    world.pool.hung = True
    world.refresher.want(A, want("7"))
    await asyncio.sleep(1)
    world.pool.hung = False
    hanging, world.pool.held = world.pool.held, []
    world.refresher.want(B, want("8"))
    await asyncio.sleep(1)

    assert "8" in world.refresher.view(B).versions
    assert world.refresher.view(A) == RegistryView(model="m")
    assert len(hanging) == 1


async def test_no_more_look_ups_run_at_once_than_there_are_threads(world: World) -> None:
    world.pool.hung = True
    world.refresher.want(A, want("1", "2", "3", "4", "5"))
    await asyncio.sleep(1)
    assert len(world.pool.held) == 2
    world.pool.hung = False
    world.pool.let_go()
    await asyncio.sleep(1)

    assert set(world.refresher.view(A).versions) == {"1", "2", "3", "4", "5"}


async def test_what_nobody_wants_is_forgotten_and_not_read(world: World) -> None:
    world.refresher.want(A, want("7", "8"))
    await asyncio.sleep(1)
    world.refresher.want(A, want("8"))
    assert set(world.refresher.view(A).versions) == {"8"}
    world.refresher.want(A, None)
    world.refresher.want(A, None)
    await asyncio.sleep(500)

    assert world.refresher.view(A) == RegistryView()
    assert len(world.registry.calls) == 2


async def test_an_answer_for_what_was_given_up_goes_nowhere(world: World) -> None:
    world.pool.hung = True
    world.refresher.want(A, want("7"))
    await asyncio.sleep(1)
    world.refresher.want(A, None)
    world.refresher.want(B, want("7"))
    await asyncio.sleep(1)
    world.pool.hung = False
    world.pool.let_go()
    await asyncio.sleep(1)

    assert [who for _, who in world.woken] == ["b"]


async def test_an_alias_is_moved_once_and_seen_where_it_is(world: World) -> None:
    world.registry.aliases["champion"] = "6"
    world.refresher.want(A, want(aliases=("champion",)))
    await asyncio.sleep(1)
    world.refresher.want(A, want(write=AliasWrite("m", "champion", "7")))
    await asyncio.sleep(1)
    assert world.refresher.view(A).aliases == {"champion": AliasTarget("7", at(1))}
    world.refresher.want(A, want(aliases=("champion",)))
    await asyncio.sleep(60)

    assert [(what, name) for _, what, name in world.registry.calls][:3] == [
        ("alias", "champion"),
        ("write", "champion=7"),
        ("alias", "champion"),
    ]
    assert world.woken == [(0, "a"), (1, "a")]


async def test_a_write_wanted_during_a_read_follows_it(world: World) -> None:
    world.registry.aliases["champion"] = "6"
    world.pool.hung = True
    world.refresher.want(A, want(aliases=("champion",)))
    await asyncio.sleep(1)
    world.refresher.want(A, want(aliases=("champion",), write=AliasWrite("m", "champion", "7")))
    world.pool.hung = False
    world.pool.let_go()
    await asyncio.sleep(1)

    assert world.registry.aliases == {"champion": "7"}


async def test_a_write_that_fails_is_seen_at_once_and_tried_again(world: World) -> None:
    world.registry.aliases["champion"] = "6"
    world.refresher.want(A, want(aliases=("champion",)))
    await asyncio.sleep(1)
    world.registry.write_problem = refused = Unavailable(Reason.ALIAS_WRITE_FAILED, "not allowed")
    world.refresher.want(A, want(aliases=("champion",), write=AliasWrite("m", "champion", "7")))
    world.refresher.want(B, want(aliases=("champion",)))
    await asyncio.sleep(1)
    assert world.refresher.view(A).aliases == {"champion": replace(refused, since=at(1))}
    assert world.refresher.view(B).aliases == {"champion": AliasTarget("6", at(0))}, "a reader keeps what it knows"
    world.registry.write_problem = None
    await asyncio.sleep(10)

    assert world.refresher.view(A).aliases == world.refresher.view(B).aliases
    assert world.registry.aliases == {"champion": "7"}


async def test_giving_an_alias_back_leaves_one_that_moved_on(world: World) -> None:
    world.registry.aliases["champion"] = "9"
    world.refresher.want(A, want(write=AliasWrite("m", "champion", "6", only_from="7")))
    await asyncio.sleep(200)

    assert world.registry.aliases == {"champion": "9"}
    view = world.refresher.view(A).aliases["champion"]
    assert isinstance(view, AliasTarget)
    assert view.version == "9"


async def test_two_releases_that_want_one_alias_do_not_alternate(world: World) -> None:
    world.refresher.want(B, want(write=AliasWrite("m", "champion", "8")))
    world.refresher.want(A, want(write=AliasWrite("m", "champion", "7")))
    await asyncio.sleep(500)

    assert {name for _, _, name in world.registry.calls} == {"champion=7"}


async def test_a_bug_in_a_look_up_is_a_failure_of_that_look_up_only(world: World) -> None:
    world.registry.bug = True
    world.refresher.want(A, want("7"))
    await asyncio.sleep(1)
    found = world.refresher.view(A).versions["7"]
    world.registry.bug = False
    await asyncio.sleep(10)

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.REGISTRY_ERROR
    assert isinstance(world.refresher.view(A).versions["7"], ModelVersion)


async def test_a_cancellation_together_with_news_ends_the_run(world: World) -> None:
    running = asyncio.create_task(world.refresher.run())
    await asyncio.sleep(1)
    world.refresher.want(A, want("7"))
    running.cancel()
    await asyncio.sleep(1)

    assert running.cancelled()


OUT = Down(Reason.REGISTRY_UNAUTHORIZED, "the registry does not accept the credentials")
MANY = [("team", f"release-{number:02}") for number in range(40)]


async def test_a_registry_that_answers_nobody_is_probed_once_at_a_time_for_however_many_releases(world: World) -> None:
    world.registry.problem = OUT
    for number, key in enumerate(MANY):
        world.refresher.want(key, want(str(number)))
    await asyncio.sleep(100)

    assert world.registry.times("version") == [0, 0, 1, 3, 7, 15, 31, 61, 91]
    assert [world.refresher.view(key).versions[str(number)] for number, key in enumerate(MANY)] == [
        replace(OUT, since=at(0))
    ] * len(MANY)
    assert len(world.woken) == len(MANY), "each is told, once"


async def test_the_first_answer_after_an_outage_lets_all_go_on_at_once(world: World) -> None:
    world.registry.problem = OUT
    for number, key in enumerate(MANY):
        world.refresher.want(key, want(str(number)))
    await asyncio.sleep(20)
    world.registry.problem = None
    await asyncio.sleep(12)

    assert all(
        isinstance(world.refresher.view(key).versions[str(number)], ModelVersion) for number, key in enumerate(MANY)
    )


async def test_a_release_that_comes_during_an_outage_is_told_at_once_and_adds_no_request(world: World) -> None:
    world.registry.problem = OUT
    world.refresher.want(A, want("7"))
    await asyncio.sleep(8)
    world.refresher.want(B, want("8"))
    told = world.refresher.view(B).versions["8"]
    await asyncio.sleep(1)

    assert told == replace(OUT, since=at(8))
    assert world.registry.times("version") == [0, 1, 3, 7]


async def test_one_model_that_may_not_be_read_keeps_no_other_from_being_read(world: World) -> None:
    world.registry.problem = Unavailable(Reason.REGISTRY_UNAUTHORIZED, "the registry does not allow this")
    world.refresher.want(A, want("7"))
    await asyncio.sleep(2)
    world.registry.problem = None
    world.refresher.want(B, want("8"))
    await asyncio.sleep(0.5)

    assert isinstance(world.refresher.view(B).versions["8"], ModelVersion)


# -- aliases, polled together --
def following(model: str, alias: str = "champion") -> RegistryWant:
    """What a release wants that follows an alias."""
    return RegistryWant(model, frozenset(), frozenset({alias}), timedelta(seconds=60))


async def test_fifty_aliases_are_polled_in_one_call_and_seen_within_a_minute(world: World) -> None:
    world.registry.aliases["champion"] = "6"
    keys = [("team", f"r{number}") for number in range(50)]
    for number, key in enumerate(keys):
        world.refresher.want(key, following(f"m{number % 20}"))
    await asyncio.sleep(1)
    world.registry.calls.clear()
    await asyncio.sleep(31)
    world.registry.aliases["champion"] = "7"
    await asyncio.sleep(60)

    assert [(time, what) for time, what, _ in world.registry.calls] == [
        (30, "aliases"),
        (60, "aliases"),
        (90, "aliases"),
    ]
    views = [world.refresher.view(key).aliases for key in keys]
    assert views == [{"champion": AliasTarget("7", at(90))}] * 50


async def test_an_alias_that_the_poll_does_not_tell_is_read_singly_and_later_together_again(world: World) -> None:
    world.registry.unseen = frozenset({"m2"})
    world.registry.aliases["champion"] = "6"
    for model in ("m1", "m2", "m3"):
        world.refresher.want(("team", model), following(model))
    await asyncio.sleep(100)

    seen = world.refresher.view(("team", "m2")).aliases
    assert isinstance(seen["champion"], AliasTarget)
    assert world.registry.times("aliases") == [0, 30, 60, 90]
    assert world.registry.times("alias") == [0, 30, 60, 90]
    world.registry.unseen = frozenset()
    await asyncio.sleep(700)
    world.registry.calls.clear()
    await asyncio.sleep(60)
    assert {what for _, what, _ in world.registry.calls} == {"aliases"}


async def test_where_searching_is_refused_every_alias_is_read_singly(world: World) -> None:
    world.registry.search_problem = Unavailable(Reason.REGISTRY_UNAUTHORIZED, "does not allow this (HTTP 403)")
    world.registry.aliases["champion"] = "6"
    for model in ("m1", "m2"):
        world.refresher.want(("team", model), following(model))
    await asyncio.sleep(100)

    assert world.registry.times("aliases") == [0]
    assert len(world.registry.times("alias")) == 2 * 4
    for model in ("m1", "m2"):
        assert world.refresher.view(("team", model)).aliases == {"champion": AliasTarget("6", at(90))}


async def test_an_outage_is_told_of_every_polled_alias_and_probed_by_one(world: World) -> None:
    world.registry.problem = Down(Reason.REGISTRY_UNREACHABLE, "the registry refuses connections")
    for model in ("m1", "m2", "m3"):
        world.refresher.want(("team", model), following(model))
    await asyncio.sleep(10)

    for model in ("m1", "m2", "m3"):
        assert world.refresher.view(("team", model)).aliases == {
            "champion": replace(world.registry.problem, since=at(0))
        }
    assert len(world.registry.calls) <= 5
    world.registry.problem = None
    world.registry.aliases["champion"] = "6"
    await asyncio.sleep(60)
    assert all(
        isinstance(world.refresher.view(("team", m)).aliases["champion"], AliasTarget) for m in ("m1", "m2", "m3")
    )


async def test_an_alias_to_be_moved_is_moved_beside_the_poll(world: World) -> None:
    world.registry.aliases["champion"] = "6"
    world.refresher.want(("team", "x"), following("m1"))
    world.refresher.want(("team", "y"), following("m2"))
    world.refresher.want(A, want(aliases=("prod",), write=AliasWrite("m", "prod", "7", None)))
    await asyncio.sleep(1)

    assert ("write", "prod=7") in [(what, name) for _, what, name in world.registry.calls]
    assert world.refresher.view(A).aliases == {"prod": AliasTarget("7", at(0))}
    assert world.registry.times("aliases") == [0]


# -- versions that merely serve --
async def test_a_version_that_merely_serves_is_read_about_daily(world: World) -> None:
    rests = replace(want("7", aliases=("champion",)), rarely=frozenset({"7"}))
    world.refresher.want(A, rests)
    await asyncio.sleep(3600)
    assert len(world.registry.times("version")) == 1, "within an hour of the start"
    await asyncio.sleep(3 * 86400)

    assert len(world.registry.times("version")) == 4
    assert isinstance(world.refresher.view(A).versions["7"], ModelVersion), "it is believed all the time"
    assert len(world.registry.times("alias")) > 8000


async def test_a_rollout_is_not_kept_waiting_by_one_that_merely_serves_the_version(world: World) -> None:
    world.refresher.want(A, replace(want("7"), rarely=frozenset({"7"})))
    await asyncio.sleep(1)
    world.refresher.want(B, want("7"))
    await asyncio.sleep(1)

    assert "7" in world.refresher.view(B).versions
