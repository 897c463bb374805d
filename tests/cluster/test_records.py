"""The audit trail on a real API server: records that never change, one a rollout, chained, told, kept long enough.

Restarts are those of `kill -9`: the process ends before or after any single request, and another one goes on.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import ClusterError
from modelrelease.api.record import RECORD_MAX_BYTES, ReleaseRecordSpec
from modelrelease.clients.kube import MODEL_RELEASE, RELEASE_RECORD, Kube, Object, Refused
from modelrelease.clients.webhook import Webhook, WebhookEndpoint
from modelrelease.core.record import chain_problem
from modelrelease.engine.outbox import AuditLog, Outbox, Receiver, SignedWebhook, read_outbox
from modelrelease.engine.records import record_number
from tests.api.test_crd import schema_of
from tests.clients.loopback import Answer, Server, serve
from tests.clients.test_webhook import verified
from tests.cluster.stage import NAME, Request, Stage
from tests.cluster.test_release_fence import restart_from_nothing

SECRET = "a secret of some length"
YEARS_S = 401 * 86400.0


class Crash(BaseException):
    """The process ends here."""


async def trail(stage: Stage) -> list[Object]:
    """The records, oldest first."""
    return sorted(await stage.all(RELEASE_RECORD), key=record_number)


async def outcomes(stage: Stage) -> list[tuple[str, str]]:
    return [(item["spec"]["model"]["version"], item["spec"]["outcome"]) for item in await trail(stage)]


async def roll_out_and_back(stage: Stage) -> None:
    """Version 1 is promoted, version 2 fails its check."""
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    status = await stage.until(lambda status: status.candidate is not None and status.candidate.exposed)
    assert status.candidate is not None
    stage.operator.feed.failing[status.candidate.revision] = 0.5
    await stage.until(lambda status: status.phase == "RolledBack")
    await stage.rest()


# -- what the API server refuses ---------------------------------------------------------------------------------------
def largest(node: dict[str, Any]) -> Any:
    """A value of this schema that is as large as its bounds allow."""
    match node["type"]:
        case "object":
            return {name: largest(child) for name, child in node["properties"].items()}
        case "array":
            items = [largest(node["items"]) for _ in range(node["maxItems"])]
            for number, item in enumerate(items):
                for key in node.get("x-kubernetes-list-map-keys", ()):
                    item[key] = f"{number:03d}{item[key][3:]}"
            return items
        case "string" if "enum" in node:
            return max(node["enum"], key=len)
        case "string" if "format" in node:
            return "2026-01-01T00:00:00.123Z"
        case "string":
            return "x" * node["maxLength"]
        case "boolean":
            return False
        case "integer":
            return 2**53 - 1
        case _:
            return -1.2345678901234567e-300


async def test_a_record_filled_to_the_brim_is_accepted_and_stays_below_256_kib(stage: Stage) -> None:
    spec = largest(schema_of("releaserecords")["properties"]["spec"])
    body = {"apiVersion": "modelrelease.dev/v1alpha1", "kind": "ReleaseRecord", "metadata": {"name": "full"}}
    made = await stage.admin.create(RELEASE_RECORD, stage.namespace, {**body, "spec": spec})
    assert made["spec"] == spec, "nothing was pruned"
    assert 100_000 < len(json.dumps(made["spec"], separators=(",", ":")).encode()) < RECORD_MAX_BYTES


async def test_a_record_never_changes_and_says_so(stage: Stage, apiserver: ControlPlane) -> None:
    await stage.release()
    await stage.promoted(1)
    [record] = await trail(stage)
    name = record["metadata"]["name"]
    patch = json.dumps({"spec": {"outcome": "RolledBack"}})
    with pytest.raises(ClusterError, match="a ReleaseRecord never changes"):
        apiserver.kubectl("patch", "rr", name, "-n", stage.namespace, "--type=merge", "-p", patch)
    with pytest.raises(Refused, match="forbidden"):
        await stage.operator.kube.patch(RELEASE_RECORD, stage.namespace, name, {"metadata": {"labels": {"a": "b"}}})
    printed = apiserver.kubectl("get", "rr", "-n", stage.namespace)
    assert printed.split()[:7] == ["NAME", "RELEASE", "VERSION", "OUTCOME", "REASON", "BEGAN", "ENDED"]
    assert printed.splitlines()[1].split()[1:5] == [NAME, "1", "Promoted", "Promoted"]


# -- one a rollout -----------------------------------------------------------------------------------------------------
async def test_every_rollout_leaves_one_record_and_each_names_the_one_before(stage: Stage) -> None:
    await roll_out_and_back(stage)
    await stage.want_version(3)  # fails its gate
    await stage.until(lambda status: status.phase == "Blocked")
    await stage.rest()
    await stage.want_version(4)
    await stage.promoted(4)

    assert await outcomes(stage) == [("1", "Promoted"), ("2", "RolledBack"), ("3", "Blocked"), ("4", "Promoted")]
    records = await trail(stage)
    assert chain_problem((item["metadata"]["name"], item["spec"]) for item in records) is None
    assert [item["spec"]["sequence"] for item in records] == [1, 2, 3, 4]
    release = await stage.live(MODEL_RELEASE)
    for item in records:
        assert "ownerReferences" not in item["metadata"]
        assert item["metadata"]["labels"]["modelrelease.dev/name"] == NAME
        assert item["metadata"]["labels"]["modelrelease.dev/revision"] == item["spec"]["revision"]
        assert item["spec"]["uid"] == release["metadata"]["uid"]
        assert item["spec"]["complete"]
    back = ReleaseRecordSpec.model_validate(records[1]["spec"])
    assert (back.reason, back.champion, back.model.name) == ("CheckFailed", "1", stage.model)
    assert [item.event for item in back.timeline][:2] == ["Set", "Confirmed"]
    assert "Returning" in {item.event for item in back.timeline}
    assert back.retrain
    assert back.gates[0].dataset == "holdout@h1"
    assert (await stage.status()).endings == ()


@pytest.mark.parametrize(
    ("what", "moment"),
    [
        pytest.param("get ReleaseRecord", "before", id="before it looks for it"),
        pytest.param("list ReleaseRecord", "before", id="before it looks for the last link"),
        pytest.param("list ReleaseRecord", "after", id="with the last link"),
        pytest.param("create ReleaseRecord", "before", id="before it is created"),
        pytest.param("create ReleaseRecord", "after", id="after it was created"),
    ],
)
async def test_a_process_that_ends_around_a_request_for_a_record_neither_loses_nor_doubles_it(
    stage: Stage, what: str, moment: str
) -> None:
    await stage.release()
    ended = 0

    async def end(request: Request) -> None:
        nonlocal ended
        if request.what == what and ended < 2:
            ended += 1
            raise Crash

    async def to_promotion() -> None:
        while True:
            setattr(stage.operator.kube, moment, end)
            try:
                await stage.promoted(1)
                return
            except Crash:
                await stage.process()

    await to_promotion()
    assert ended >= 1
    assert await outcomes(stage) == [("1", "Promoted")]
    assert (await stage.status()).endings == ()


async def test_a_process_that_ends_after_any_write_leaves_one_record_a_rollout(stage: Stage) -> None:
    await stage.release()
    for spared in itertools.count():
        writes = 0

        async def end(request: Request, spared: int = spared) -> None:
            nonlocal writes
            writes += request.writes
            if request.writes and writes > 1 + spared % 3:
                raise Crash

        stage.operator.kube.after = end
        try:
            await stage.promoted(1)
            break
        except Crash:
            await stage.process()
        assert spared < 60
    stage.operator.kube.after = None
    await stage.rest()
    assert await outcomes(stage) == [("1", "Promoted")]


async def test_two_processes_that_create_the_same_record_make_one(stage: Stage) -> None:
    await stage.release()
    first, second = stage.operator, await stage.process()

    async def faster(request: Request) -> None:
        """The other one creates it between this one's look and its creation."""
        if request.what == "create ReleaseRecord":
            second.kube.before = None
            await first.reconciler(stage.key)
            await first.records.create(stage.key)

    second.kube.before = faster
    await stage.promoted(1)
    assert await outcomes(stage) == [("1", "Promoted")]
    assert (await stage.status()).endings == ()


async def test_deleting_a_release_keeps_its_records_and_the_next_of_its_name_goes_on_with_the_chain(
    stage: Stage,
) -> None:
    await stage.release()
    await stage.promoted(1)
    [kept] = await trail(stage)
    assert "ownerReferences" not in kept["metadata"], "no garbage collector takes what nobody owns"
    await restart_from_nothing(stage)
    await stage.want_version(2)
    await stage.promoted(2)
    assert await outcomes(stage) == [("1", "Promoted"), ("2", "Promoted")]
    [before, after] = await trail(stage)
    assert after["spec"]["previous"]["name"] == before["metadata"]["name"]
    assert after["spec"]["uid"] != before["spec"]["uid"]


async def test_a_release_that_is_deleted_before_its_record_was_made_still_gets_it(stage: Stage) -> None:
    live = await stage.release()
    refused = True

    async def refuse(request: Request) -> None:
        if request.what == "create ReleaseRecord" and refused:
            raise Refused("no records today")

    stage.operator.kube.before = refuse
    await stage.promoted(1)
    await stage.admin.delete(MODEL_RELEASE, stage.namespace, NAME, uid=live["metadata"]["uid"])
    await stage.work()
    assert await outcomes(stage) == []
    refused = False
    await stage.work()
    assert await outcomes(stage) == [("1", "Promoted")]


async def test_an_api_that_refuses_records_delays_no_rollout_and_the_oldest_ending_goes_with_a_warning(
    stage: Stage,
) -> None:
    async def refuse(request: Request) -> None:
        if request.kind == "ReleaseRecord":
            raise Refused("no records today")

    await stage.release()
    stage.operator.kube.before = refuse
    await stage.promoted(1)
    for version in (2, 4, 1, 2):
        await stage.want_version(version)
        await stage.promoted(version)
    status = await stage.status()
    assert [item.version for item in status.endings] == ["4", "1", "2"]
    assert status.records_dropped == 2
    warnings = [event["note"] for event in await stage.events() if event["reason"] == "RecordDropped"]
    assert len(warnings) == 2

    stage.operator.kube.before = None
    await stage.rest()
    assert await outcomes(stage) == [("4", "Promoted"), ("1", "Promoted"), ("2", "Promoted")]
    assert (await stage.status()).endings == ()


# -- the outbox --------------------------------------------------------------------------------------------------------
class Post:
    """An outbox of one process, worked by hand; `webhook` is where the receiver listens."""

    def __init__(self, stage: Stage, tmp_path: Path) -> None:
        self.stage = stage
        self.secret = tmp_path / "secret"
        self.secret.write_text(SECRET)
        self.webhooks: list[Webhook] = []

    def start(self, url: str | None, *, retention: timedelta = timedelta(days=400)) -> Outbox:
        """Another process' outbox."""
        self.receivers: list[Receiver] = [AuditLog()]
        if url is not None:
            self.webhooks.append(Webhook(WebhookEndpoint(url, str(self.secret)), timeout_s=5))
            self.receivers.append(SignedWebhook(self.webhooks[-1]))
        kube: Kube = self.stage.operator.kube
        self.outbox = Outbox(
            kube, self.receivers, self.stage.clock, retention=retention, namespace=self.stage.namespace
        )
        return self.outbox

    async def tell(self) -> list[float | None]:
        """Let every sink tell what it can; the seconds until it wants to try again."""
        return [await self.outbox.tell(receiver, self.stage.key) for receiver in self.receivers]


@pytest.fixture
async def post(stage: Stage, tmp_path: Path) -> AsyncIterator[Post]:
    made = Post(stage, tmp_path)
    yield made
    for webhook in made.webhooks:
        await webhook.close()


def told(receiver: Server) -> list[tuple[str, str]]:
    """Type and subject of what the receiver has acknowledged, every signature verified."""
    events = [verified(request, SECRET.encode()) for request in receiver.requests]
    return [(event["type"].rpartition(".")[2], event["subject"].rpartition("/")[2]) for event in events]


STORY = [("promoted", "1"), ("rolledback", "2"), ("retrain", "2")]


async def test_a_receiver_is_told_all_in_order_and_the_log_has_a_line_for_each(
    stage: Stage, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "modelrelease.audit")
    await roll_out_and_back(stage)
    with serve(lambda _: Answer(204)) as receiver:
        post.start(receiver.url)
        assert await post.tell() == [None, None]
        assert await post.tell() == [None, None]
        assert told(receiver) == STORY
        retrain = json.loads(receiver.requests[-1].body)["data"]
    records = await trail(stage)
    assert retrain["record"]["name"] == records[1]["metadata"]["name"]
    [cause] = retrain["causes"]
    assert cause["kind"] == "check"
    assert cause["value"] > cause["champion"]
    assert cause["since"] < cause["until"]
    lines = [
        record.__dict__["event"]["type"].rpartition(".")[2]
        for record in caplog.records
        if record.name.endswith("audit")
    ]
    assert lines == [kind for kind, _ in STORY]
    for item in records:
        outbox = read_outbox(item)
        assert outbox.state == "Exported"
        assert {entry.sink for entry in outbox.deliveries} == {"log", "webhook"}
        assert all(entry.delivered_at for entry in outbox.deliveries)


async def test_a_receiver_that_is_down_for_an_hour_gets_all_in_order_afterwards_across_restarts(
    stage: Stage, post: Post
) -> None:
    up = False
    with serve(lambda _: Answer(204 if up else 503)) as receiver:
        post.start(receiver.url)
        await roll_out_and_back(stage)
        waits = []
        for _ in range(12):
            [log, again] = await post.tell()
            assert log is None, "a dead receiver does not stop the log"
            assert again is not None
            waits.append(again)
            stage.clock.skip(again)
            if len(waits) == 6:
                post.start(receiver.url)  # another process: how often it was tried stands in the record
        assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]
        assert {item for item, _ in told(receiver)} == {"promoted"}, "what comes next waits for its turn"
        first = read_outbox((await trail(stage))[0])
        failing = next(item for item in first.deliveries if item.sink == "webhook")
        assert (failing.attempts, failing.state) == (12, "Pending")
        assert "HTTP 503" in failing.last_error
        receiver.requests.clear()
        up = True
        post.start(receiver.url)
        assert await post.tell() == [None, None]
        assert told(receiver) == STORY
    assert {read_outbox(item).state for item in await trail(stage)} == {"Exported"}


async def test_a_process_that_ends_between_telling_and_writing_it_down_tells_again_with_the_same_id(
    stage: Stage, post: Post
) -> None:
    await stage.release()
    await stage.promoted(1)

    async def end(request: Request) -> None:
        if request.what == "patch ReleaseRecord":
            raise Crash

    with serve(lambda _: Answer(204)) as receiver:
        post.start(receiver.url)
        stage.operator.kube.before = end
        with pytest.raises(Crash):
            await post.outbox.tell(post.receivers[1], stage.key)
        await stage.process()
        post.start(receiver.url)
        await post.tell()
        ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(ids) == 2
    assert len(set(ids)) == 1


async def test_a_sweep_wakes_what_is_not_exported_after_a_restart(stage: Stage, post: Post) -> None:
    await stage.release()
    await stage.promoted(1)
    outbox = post.start(None)
    woken: list[Any] = []
    outbox.wake = woken.append  # type: ignore[method-assign]
    await outbox.sweep()
    assert woken == [stage.key]
    await post.tell()
    woken.clear()
    await outbox.sweep()
    assert woken == []


# -- retention ---------------------------------------------------------------------------------------------------------
async def test_an_old_record_is_deleted_once_it_is_exported_and_no_sooner(stage: Stage, post: Post) -> None:
    await stage.release()
    await stage.promoted(1)
    with serve(lambda _: Answer(500)) as receiver:
        outbox = post.start(receiver.url)
        await post.tell()
        stage.clock.skip(YEARS_S)
        await outbox.sweep()
        assert len(await trail(stage)) == 1, "somebody has yet to be told of it"
        receiver.answer = lambda _: Answer(204)
        await post.tell()
        await outbox.sweep()
        assert len(await trail(stage)) == 1, "once a day"
        stage.clock.skip(86400)
        await outbox.sweep()
        assert await trail(stage) == []


async def test_a_young_record_is_kept_and_the_chain_goes_on_where_the_oldest_have_gone(
    stage: Stage, post: Post
) -> None:
    await roll_out_and_back(stage)
    outbox = post.start(None)
    await post.tell()
    await outbox.sweep()
    oldest, newest = await trail(stage)
    name, uid = oldest["metadata"]["name"], oldest["metadata"]["uid"]
    await stage.admin.delete(RELEASE_RECORD, stage.namespace, name, uid=uid)
    await stage.want_version(4)
    await stage.promoted(4)
    left = await trail(stage)
    assert [item["spec"]["sequence"] for item in left] == [2, 3]
    assert left[0]["metadata"]["name"] == newest["metadata"]["name"]
    assert chain_problem((item["metadata"]["name"], item["spec"]) for item in left) is None
