"""The operator's pass as a generator that stops after every effect, so that it can crash or stall between any two.

It does what the engine does, in the same order and under the same fences, on the world in memory. A pass that is not
driven to its end is a crash; one that is driven on after others have run is a leader that stalled.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from modelrelease.api.base import REVISION_LABEL
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.core.announce import announce
from modelrelease.core.decide import decide
from modelrelease.core.drift import covers
from modelrelease.core.record import Place, spec_of
from modelrelease.core.render import Child, render
from tests.sim.world import NAMESPACE, RELEASE, Change, Stored, World, weights_of

Steps = Generator[str, None, bool]
_ORDER = {"PodMonitor": 0, "Deployment": 1, "Service": 2, "HTTPRoute": 3}


def one_pass(world: World) -> Steps:
    """Observe, decide, record, apply, announce; yields what it has just done. Returns whether anything was written."""
    spec, status, version = world.spec, world.status, world.status_version
    obs, now = world.observe(), world.now
    live = dict(world.children)
    yield "observed"
    decision = decide(spec, status, obs, now)
    for revision in decision.store:
        world.revisions.setdefault(revision.key, revision)
        yield "stored a revision"
    changed = decision.status is not status
    change = Change(spec, status, decision.status, obs, now, live.get(("HTTPRoute", RELEASE)))
    world.decisions.append(change)
    if changed:
        if world.status_version != version:
            return True  # 409: read and decide again
        world.status, world.status_version = decision.status, version + 1
        world.changes.append(change)
        yield "recorded"
    world.wants = decision.wants
    revisions = {**obs.revisions, **{item.key: item for item in decision.store}}
    route = live.get(("HTTPRoute", RELEASE))
    children = render(spec, decision.status, revisions, RELEASE, route.body if route else None)
    wrote = yield from _apply(world, live, children, decision.status)
    announce(status, decision.status)
    kept = yield from _keep(world, decision.status)
    return changed or wrote or kept


def _keep(world: World, status: ModelReleaseStatus) -> Steps:
    """What the keeper of the records does beside the passes: create if absent, then know that it is there."""
    kept = False
    for item in status.endings:
        if item.name in world.seen or world.faults.no_records:
            continue
        if item.name not in world.records:
            yield "looked for a record"
            number = len(world.records) + 1
            world.records.setdefault(item.name, spec_of(item, Place(NAMESPACE, RELEASE, "uid", number)))
            yield "created a record"
        world.seen.add(item.name)
        kept = True
    return kept


def _apply(
    world: World, live: dict[tuple[str, str], Stored], children: Sequence[Child], status: ModelReleaseStatus
) -> Steps:
    wrote = False
    for child in sorted(children, key=lambda child: _rank(child, live)):
        found = live.get((child.kind, child.name))
        if found is not None and found.sequence > status.sequence:
            return True  # fenced: a later decision wrote it
        if found is not None and (found.body == child.body or covers(found.body, child.body)):
            continue
        if world.children.get((child.kind, child.name)) is not found:
            return True  # 409: somebody wrote it since it was read
        world.write_child(child, status.sequence, status)
        wrote = True
        yield f"wrote {child.kind} {child.name}"
    for key in _superfluous(live, children):
        if world.children.get(key) is not live[key]:
            return True
        world.delete_child(key, status)
        wrote = True
        yield f"deleted {key[1]}"
    if _label(world, status):
        wrote = True
        yield "labelled"
    return wrote


def _rank(child: Child, live: dict[tuple[str, str], Stored]) -> int:
    found = live.get((child.kind, child.name))
    if child.kind == "Deployment" and found and child.body["spec"]["replicas"] < found.body["spec"]["replicas"]:
        return 4  # shrink last
    return _ORDER[child.kind]


def _superfluous(live: dict[tuple[str, str], Stored], children: Sequence[Child]) -> list[tuple[str, str]]:
    """Deployments that nothing names any more, but for those behind a backend that the live route sends traffic to."""
    wanted = {(child.kind, child.name) for child in children}
    route, reached = live.get(("HTTPRoute", RELEASE)), set()
    for slot, weight in (weights_of(route.body) if route else {}).items():
        service = live.get(("Service", f"{RELEASE}-{slot}"))
        if service is not None and weight > 0:
            reached.add(service.body["spec"]["selector"][REVISION_LABEL])
    return [
        key
        for key, item in live.items()
        if key[0] == "Deployment" and key not in wanted and children
        if item.body["metadata"]["labels"][REVISION_LABEL] not in reached
    ]


def _label(world: World, status: ModelReleaseStatus) -> bool:
    """Outcomes beside the revisions, for the day when the status is lost."""
    before = dict(world.outcomes)
    roles = [role.key for role in (status.stable, status.previous) if role is not None]
    quarantined = {entry.key for entry in status.quarantine}
    for key in world.revisions:
        if key in quarantined:
            world.outcomes[key] = "Quarantined"
        elif key in roles:
            world.outcomes[key] = "Promoted"
        elif world.outcomes.get(key) == "Quarantined":
            del world.outcomes[key]
    return world.outcomes != before
