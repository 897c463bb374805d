"""What a team and its SRE live through, as scenes on real parts, told by the demo and held to account by tests.

Each scene acts as people do (kubectl apply, kubectl annotate, a kill, an outage), waits for what must follow and
checks it. They build on each other in the order of SCENES. A scene that does not see what it must
raises SceneError, with the release's own words.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e.stack import HOSTNAME, TEAM_NAMESPACE, Stack, digits
from e2e.traffic import Stream, Traffic
from e2e.training import MODEL_NAME, sample_requests

REQUESTS_PER_S = 40
STREAM_S = 30


class SceneError(AssertionError):
    """The release did not do what it must; the message says what it said instead."""


@dataclass(slots=True)
class Theatre:
    """The stack, the traffic on it, and what the scenes have measured so far."""

    stack: Stack
    say: Callable[[str], None]
    traffic: Traffic = field(init=False)
    measured: dict[str, float | int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.traffic = Traffic(self.stack.gateway.url, HOSTNAME, MODEL_NAME, sample_requests(), rate=REQUESTS_PER_S)

    def version(self, name: str) -> int:
        """The registry's version of a trained candidate."""
        return self.stack.versions[name].version

    def release(self, name: str, **changes: Any) -> None:
        """kubectl apply of the release at this candidate."""
        self.stack.apply(digits(self.stack, self.version(name), **changes))

    def wait(self, what: str, check: Callable[[dict[str, Any]], bool], timeout_s: float) -> dict[str, Any]:
        """Poll the status until `check` holds; raises SceneError with what it says."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.stack.status()
            if check(status):
                return status
            if time.monotonic() > deadline:
                seen = json.dumps({key: status.get(key) for key in ("phase", "message", "summary", "traffic")})
                raise SceneError(f"not within {timeout_s:.0f} s: {what}; the release says {seen}")
            time.sleep(0.25)

    def wait_phase(self, phase: str, name: str, timeout_s: float) -> dict[str, Any]:
        """Wait until the release is in this phase with this candidate as its stable revision, or none yet."""
        version = str(self.version(name))
        return self.wait(
            f"{phase} with v{version} serving",
            lambda status: status.get("phase") == phase and _stable(status) == version,
            timeout_s,
        )

    def wait_weight(self, at_least: int, timeout_s: float = 120) -> dict[str, Any]:
        """Wait until the candidate has at least this share and the gateway has confirmed it."""
        return self.wait(
            f"the candidate has {at_least}% of traffic",
            lambda status: weight(status) >= at_least and "confirmedAt" in status["traffic"],
            timeout_s,
        )

    def measure_operator(self, when: str) -> None:
        """Note what the operator's process has used so far; a new process counts from nothing."""
        requests = self.stack.operator_metric("modelrelease_api_requests_total")
        memory = self.stack.operator_metric("process_resident_memory_bytes")
        self.measured[f"API requests of the operator {when}"] = int(requests)
        self.measured[f"memory of the operator {when}, MB (RSS)"] = round(memory / 1e6)

    def failures(self) -> list[str]:
        """Failed requests that no model answered, and failures of models that are not known to be bad."""
        guilty = {str(self.version("brittle")), str(self.version("slow"))}
        return self.traffic.failures(but_of=guilty)


def first_release(theatre: Theatre) -> None:
    """A first release: gates on absolute values, pods on GPUs, then all traffic."""
    theatre.measure_operator("at rest, without a release")
    theatre.release("first")
    theatre.wait_phase("Promoted", "first", 180)
    theatre.traffic.start()
    _until(lambda: theatre.traffic.served(str(theatre.version("first"))) >= REQUESTS_PER_S, "v1 answers requests", 20)
    gpus = [pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in theatre.stack.pods()]
    _expect(["1", "1"], gpus, "each pod holds a GPU")


def better_model(theatre: Theatre) -> None:
    """A better model: gated, canaried, compared, promoted; no serving pod restarts and the alias follows."""
    before = _pod_names(theatre.stack)
    theatre.release("better")
    theatre.wait_weight(20)
    version = str(theatre.version("better"))
    split = _share_of(theatre, version, 300)
    theatre.say(f"asked for 20% of requests, {split:.1%} of 300 answers came from v{version}")
    if not 0.10 <= split <= 0.31:  # five standard deviations of 300 draws
        raise SceneError(f"asked for 20% on v{version}, measured {split:.1%}")
    theatre.measured["split seen for 20% asked"] = round(split, 3)
    status = theatre.wait_phase("Promoted", "better", 240)
    _expect("Promoted", status["history"][0]["outcome"], "the rollout's outcome")
    _expect(0, _restarts(theatre.stack), "restarts of serving pods")
    if not before <= _pod_names(theatre.stack):
        raise SceneError("the former revision must stay until its requests have had their time")
    alias = theatre.wait(
        "the alias champion has moved", lambda seen: (seen.get("alias") or {}).get("state") == "Written", 30
    )["alias"]
    _expect(version, alias["version"], "the version that champion points at")


def night_blind_model(theatre: Theatre) -> None:
    """Better on average, worse at night: Blocked, no pod, and the message says which slice, seen and needed."""
    theatre.release("night-blind")
    status = theatre.wait_phase("Blocked", "better", 60)
    theatre.say(status["message"])
    for word in ("slice/night", "needs", "nothing was deployed"):
        if word not in status["message"]:
            raise SceneError(f"the message must contain {word!r}: {status['message']}")
    revisions = {pod["metadata"]["labels"]["modelrelease.dev/revision"] for pod in theatre.stack.pods()}
    if status["candidate"]["revision"] in revisions:
        raise SceneError("a pod of the blocked version was created")


def brittle_model(theatre: Theatre) -> None:
    """Passes its gates, fails on real requests: taken back by itself while a stream on it runs to its end."""
    theatre.release("brittle")
    theatre.wait_weight(20)
    stream = _stream_on(theatre, str(theatre.version("brittle")))
    status = theatre.wait(
        "all traffic is back on v2",
        lambda seen: (
            (seen.get("lastRollback") or {}).get("version") == str(theatre.version("brittle"))
            and "seconds" in seen["lastRollback"]
        ),
        120,
    )
    rollback = status["lastRollback"]
    first_bad = theatre.traffic.first_failure_of(str(theatre.version("brittle")))
    routed = datetime.fromisoformat(rollback["routedAt"]).timestamp()
    theatre.measured["seconds from verdict to confirmed route"] = rollback["seconds"]
    theatre.measured["seconds from first bad response to route back at 100 %"] = round(routed - first_bad, 1)
    theatre.say(f"{rollback['message']}; routed back {rollback['seconds']} s after the verdict")
    result = stream.result(timeout_s=STREAM_S + 15)
    theatre.say(f"a {STREAM_S} s stream that started on the canary: {result.describe()}")
    if not result.complete:
        raise SceneError(f"the stream on the rolled back canary broke: {result.describe()}")
    theatre.wait_phase("RolledBack", "better", 60)
    _expect(0, _restarts(theatre.stack), "restarts of the pods that serve")


def quarantine(theatre: Theatre) -> None:
    """The same version applied again, touched, and back and forth: it stays out."""
    generation = theatre.stack.release()["metadata"]["generation"]
    theatre.release("brittle")
    theatre.stack.cluster.kubectl(
        "annotate", "--overwrite", "modelrelease", "digits", "-n", TEAM_NAMESPACE, "team/touched=1"
    )
    theatre.release("better")
    theatre.wait_phase("Promoted", "better", 30)
    theatre.release("brittle")
    status = theatre.wait_phase("RolledBack", "better", 30)
    time.sleep(3)
    status = theatre.stack.status()
    _expect("RolledBack", status["phase"], "the phase of a version applied again")
    if "candidate" in status or theatre.stack.release()["metadata"]["generation"] <= generation:
        raise SceneError("a quarantined version must not be tried again")
    theatre.release("better")
    theatre.wait_phase("Promoted", "better", 30)


def operator_killed(theatre: Theatre) -> None:
    """kill -9 of the operator in mid-phase: it carries on in the same phase, with its evidence."""
    theatre.stack.apply(rebuilt(theatre))
    theatre.wait_weight(20)
    before = theatre.wait("evidence was counted", lambda seen: _counted(seen) >= 20, 90)
    restarts = theatre.stack.operator_restarts()
    theatre.measure_operator("until it is killed")
    theatre.stack.kill_operator()
    killed = time.monotonic()
    theatre.stack.command("pause", before["candidate"]["revision"], "killed")
    after = theatre.wait("the new operator obeys", lambda seen: seen.get("paused") is True, 120)
    theatre.measured["seconds from kill -9 to the next operator's first decision"] = round(time.monotonic() - killed, 1)
    _expect(restarts + 1, theatre.stack.operator_restarts(), "starts of the operator's container")
    theatre.stack.command("resume", before["candidate"]["revision"], "killed2")
    _expect(before["step"]["name"], after["step"]["name"], "the phase after the kill")
    _expect(before["candidate"]["startedAt"], after["candidate"]["startedAt"], "the rollout after the kill")
    if _counted(after) < _counted(before):
        raise SceneError(f"evidence was lost: {_counted(before)} requests before, {_counted(after)} after")
    theatre.say(
        f"{_counted(before)} requests counted before the kill, {_counted(after)} after; phase {after['step']['name']}"
    )


def prometheus_away(theatre: Theatre, seconds: float = 60) -> None:
    """Prometheus stops in mid-canary: the weight is frozen, nobody is blamed, and then it goes on by itself."""
    before = theatre.stack.status()
    theatre.stack.cluster.stop_prometheus()
    status = theatre.wait(
        "EvidenceAvailable is False", lambda seen: _condition(seen, "EvidenceAvailable")["status"] == "False", 60
    )
    theatre.say(f"{status['phase']}: {_condition(status, 'EvidenceAvailable')['message']}")
    stopped = time.monotonic()
    while time.monotonic() - stopped < seconds:
        seen = theatre.stack.status()
        _expect(weight(before), weight(seen), "the weight while Prometheus is away")
        time.sleep(2)
    theatre.stack.cluster.start_prometheus()
    theatre.wait("evidence is back", lambda seen: _condition(seen, "EvidenceAvailable")["status"] == "True", 60)
    status = theatre.stack.status()
    _expect(weight(before), weight(status), "the weight just after the outage")
    if _counted(status) <= _counted(before):
        raise SceneError(f"evidence must grow on: {_counted(before)} requests before, {_counted(status)} after")


def weight_edited(theatre: Theatre) -> None:
    """Somebody edits the weight by hand: it is put back within two seconds. Then the rollout goes on to its end."""
    status = theatre.stack.status()
    wanted = {"a": status["traffic"]["a"], "b": status["traffic"]["b"]}
    patch = [{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 77 if wanted["a"] != 77 else 78}]
    theatre.stack.cluster.kubectl(
        *("patch", "httproute", "digits", "-n", TEAM_NAMESPACE, "--type=json", "-p", json.dumps(patch))
    )
    edited = time.monotonic()
    _until(lambda: _route_weights(theatre.stack) == wanted, "the weight is put back", 10, interval_s=0.05)
    took = time.monotonic() - edited
    theatre.measured["seconds until a hand-edited weight is put back"] = round(took, 2)
    if took > 2:
        raise SceneError(f"the hand-edited weight was put back after {took:.1f} s")
    theatre.stack.command("promote", theatre.stack.status()["candidate"]["revision"], "demo1")
    theatre.wait_phase("Promoted", "better", 180)
    theatre.measure_operator("from the kill to the end")


def slow_model(theatre: Theatre) -> None:
    """As good as any offline, slow on real requests: the latency check takes it back."""
    _until_drained(theatre)
    # it can answer about five requests a second: a small share of traffic shows that as well as a large one
    theatre.release("slow", rollout=_long_phases(weight=5))
    status = theatre.wait(
        "all traffic is back on v2",
        lambda seen: (
            (seen.get("lastRollback") or {}).get("version") == str(theatre.version("slow"))
            and "seconds" in seen["lastRollback"]
        ),
        180,
    )
    if "latency" not in status["lastRollback"]["message"]:
        raise SceneError(f"the latency check must be to blame: {status['lastRollback']['message']}")
    theatre.release("better")
    theatre.wait_phase("Promoted", "better", 90)


def rebuilt(theatre: Theatre) -> dict[str, Any]:
    """The serving model in a new pod template: a healthy candidate that this release has not promoted before."""
    manifest = digits(theatre.stack, theatre.version("better"), rollout=_long_phases())
    manifest["spec"]["workload"]["template"]["metadata"] = {"annotations": {"team/build": "2"}}
    return manifest


SCENES: tuple[tuple[str, Callable[[Theatre], None]], ...] = (
    ("A first release serves", first_release),
    ("The better model is gated, canaried and promoted", better_model),
    ("The model that is worse at night is blocked", night_blind_model),
    ("The model that fails on real requests is rolled back", brittle_model),
    ("Applied again, it stays quarantined", quarantine),
    ("The operator is killed in mid-phase", operator_killed),
    ("Prometheus is away for a minute", prometheus_away),
    ("A weight is edited by hand", weight_edited),
)


def weight(status: Mapping[str, Any]) -> int:
    """Percent of traffic that the candidate is given."""
    candidate, traffic = status.get("candidate"), status.get("traffic")
    return int(traffic[candidate["slot"]]) if candidate and traffic else 0


def _stable(status: Mapping[str, Any]) -> str | None:
    return (status.get("stable") or {}).get("version")


def _counted(status: Mapping[str, Any]) -> int:
    return int(max(((item.get("canary") or {}).get("total", 0) for item in status.get("checks") or ()), default=0))


def _condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return next(item for item in status["conditions"] if item["type"] == kind)


def _route_weights(stack: Stack) -> dict[str, int]:
    rule = stack.cluster.get("httproute", "digits", "-n", TEAM_NAMESPACE)["spec"]["rules"][0]
    return {ref["name"][-1]: ref["weight"] for ref in rule["backendRefs"]}


def _pod_names(stack: Stack) -> set[str]:
    return {pod["metadata"]["name"] for pod in stack.pods()}


def _restarts(stack: Stack) -> int:
    pods = stack.pods()
    return sum(state["restartCount"] for pod in pods for state in pod["status"].get("containerStatuses") or ())


def _until_drained(theatre: Theatre) -> None:
    theatre.wait("the former revision has drained", lambda seen: "drainedAt" in (seen.get("previous") or {}), 90)
    _until(lambda: len(theatre.stack.pods()) == 2, "the former revision's pods are gone", 90)


def _share_of(theatre: Theatre, version: str, requests: int) -> float:
    """Share of the next requests that this version answers."""
    before = theatre.traffic.by_version()
    _until(lambda: sum(theatre.traffic.by_version().values()) - sum(before.values()) >= requests, "requests flow", 60)
    after = theatre.traffic.by_version()
    return (after.get(version, 0) - before.get(version, 0)) / (sum(after.values()) - sum(before.values()))


def _stream_on(theatre: Theatre, version: str) -> Stream:
    """A long stream that this version answers; those that land elsewhere are let go."""
    for _ in range(60):
        stream = theatre.traffic.open_stream(STREAM_S)
        if stream.version(timeout_s=10) == version:
            return stream
        stream.cancel()
    raise SceneError(f"no stream out of 60 reached v{version}")


def _long_phases(weight: int = 20) -> dict[str, Any]:
    return {
        "phases": [{"name": "canary", "weight": weight, "duration": "10m"}, {"name": "full", "weight": 100}],
        "bake": {"duration": "5s"},
        "progressDeadline": "3m",
    }


def _until(check: Callable[[], bool], what: str, timeout_s: float, interval_s: float = 0.25) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise SceneError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(interval_s)


def _expect(expected: object, actual: object, what: str) -> None:
    if expected != actual:
        raise SceneError(f"{what}: expected {expected!r}, got {actual!r}")
