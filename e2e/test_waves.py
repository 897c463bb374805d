"""A team that releases by moving an alias in MLflow, region by region: nobody edits a ModelRelease.

Both releases follow one alias, and the later one waits for the earlier. No requests are sent, so there is nothing to
compare, and a person promotes: which version begins where and when is all that is shown here.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mlflow import MlflowClient

from e2e.cluster.interface import wait_until
from e2e.scenes import weight
from e2e.stack import TEAM_NAMESPACE, Stack, digits
from e2e.training import MODEL_NAME

EARLIER, LATER, ALIAS = "digits-eu", "digits-us", "next"
BEGINS_WITHIN_S = 60


@pytest.fixture
def registry(stack: Stack) -> MlflowClient:
    return MlflowClient(stack.mlflow_url)


@pytest.fixture
def regions(stack: Stack, registry: MlflowClient) -> Iterator[None]:
    """Both releases, on the first version."""
    registry.set_registered_model_alias(MODEL_NAME, ALIAS, str(stack.versions["first"].version))
    stack.apply(region(stack, EARLIER, []))
    stack.apply(region(stack, LATER, [{"name": "eu-first", "after": {"release": EARLIER, "promotedFor": "5s"}}]))
    try:
        yield
    finally:
        stack.cluster.kubectl("delete", "modelrelease", EARLIER, LATER, "-n", TEAM_NAMESPACE, "--wait=true")


def region(stack: Stack, name: str, gates: list[dict[str, Any]]) -> dict[str, Any]:
    """A release that follows the alias, with one pod."""
    made = digits(stack, 0, model={"name": MODEL_NAME, "alias": ALIAS})
    made["metadata"]["name"] = name
    spec = made["spec"]
    del spec["registry"]
    spec["gates"] += gates
    spec["workload"] |= {"replicas": 1, "drainTimeout": "1s"}
    spec["traffic"]["gateway"]["hostnames"] = [f"{name}.example"]
    return made


def serves(stack: Stack, name: str, version: int) -> Callable[[], bool]:
    """Whether the release has promoted this version."""

    def told() -> bool:
        status = stack.status(name)
        return status.get("phase") == "Promoted" and status["stable"]["version"] == str(version)

    return told


def gets_traffic(stack: Stack, name: str) -> bool:
    """Whether the candidate of the release gets traffic."""
    return weight(stack.status(name)) > 0


def test_an_alias_that_moves_starts_one_region_within_a_minute_and_the_next_after_it(
    stack: Stack, registry: MlflowClient, regions: None
) -> None:
    first, better = stack.versions["first"].version, stack.versions["better"].version
    for name in (EARLIER, LATER):
        wait_until(f"{name} serves v{first}", serves(stack, name, first), timeout_s=120)

    registry.set_registered_model_alias(MODEL_NAME, ALIAS, str(better))
    moved = time.monotonic()
    wait_until(
        f"{EARLIER} begins with v{better}",
        lambda: (stack.status(EARLIER).get("candidate") or {}).get("version") == str(better),
        timeout_s=BEGINS_WITHIN_S,
    )
    print(f"the rollout began {time.monotonic() - moved:.1f} s after the alias was moved")
    wait_until(
        f"{LATER} says what it waits for",
        lambda: f"{EARLIER} has not promoted v{better} yet" in stack.status(LATER)["message"],
        timeout_s=BEGINS_WITHIN_S,
    )
    for name in (EARLIER, LATER):
        wait_until(f"{name} gives v{better} traffic", functools.partial(gets_traffic, stack, name), timeout_s=120)
        stack.command("promote", stack.status(name)["candidate"]["revision"], "1", name)
        wait_until(f"{name} serves v{better}", serves(stack, name, better), timeout_s=120)

    earlier, later = (stack.status(name)["stable"]["promotedAt"] for name in (EARLIER, LATER))
    assert earlier < later
    assert [note for reason, note in stack.events(LATER) if reason == "WaitingForRelease"]
