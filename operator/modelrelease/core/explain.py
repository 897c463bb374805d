"""From a status to what a person asks first: is anyone hurt, what do I have to do, what happens next and when.

Pure, and only words: nothing is decided here. Each sentence names times in UTC (`03:12:09Z`) and says how long that is
from `now`. What is not known besides the status (a revision that may not be read) is left out of a sentence, never
guessed. What would move a release, one condition at a time, stands in `core.openings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import (
    CandidateStatus,
    ModelReleaseStatus,
    Outcome,
    RevisionStatus,
    Stage,
)

from .told import (
    clock,
    condition,
    deciding,
    exposed_since,
    phase_of,
    reason_of,
    roughly,
    span,
    takes,
    until,
    waited,
    weight,
)

PATIENCE_WITH_GATEWAY = timedelta(seconds=30)
"""How long a gateway may take to confirm weights before a person should look."""


class Users(StrEnum):
    """How the users of a release fare."""

    SAFE = "SAFE"
    HURT = "HURT"
    UNKNOWN = "UNKNOWN"
    NOBODY = "NOBODY"


class Urgency(IntEnum):
    """Who is needed: sorts a list, and tells the exit code (up to LATER it is 1)."""

    NOW = 0  # users are hurt
    SOON = 1  # it does not go on without a person, or nobody can see how users fare
    LATER = 2  # at rest, but not where it was asked to be
    MOVING = 3
    STEADY = 4


@dataclass(frozen=True, slots=True)
class Leg:
    """A phase of the candidate's rollout, as its revision has it."""

    name: str
    weight: int
    duration: timedelta
    timeout: timedelta
    parity: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What is known besides the status; None, or no legs, where it cannot be read.

    legs, drain: of the candidate's revision. bake, deadline, inconclusive, suspend: of the spec, as it is now. A few
    plain values, because the models of spec and revision take longer to import than all else that a screen needs.
    """

    name: str
    namespace: str = "default"
    legs: tuple[Leg, ...] = ()
    drain: timedelta | None = None
    bake: timedelta | None = None
    deadline: timedelta | None = None
    inconclusive: str = "Hold"
    suspend: bool = False
    asks: str = ""

    def leg(self, step: int) -> Leg | None:
        """The phase at a step; the last one for steps beyond it."""
        return self.legs[min(step, len(self.legs) - 1)] if self.legs else None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The first two lines of every screen.

    since: of `users`. because: why they are not safe, empty while they are. shares: who has which traffic, and how many
    pods; brief: the same in fewer letters. command: what to type for `do`, where one line of it helps.
    """

    users: Users
    since: datetime | None
    because: str
    shares: str
    brief: str
    do: str
    command: str
    next: str
    urgency: Urgency

    @property
    def ill(self) -> bool:
        """Whether somebody is hurt or has something to do."""
        return self.urgency <= Urgency.LATER


def explain(status: ModelReleaseStatus, known: Known, now: datetime) -> Explanation:
    """What to tell first of a release."""
    users, since, because = _users(status)
    urgency, do = _to_do(status, users, known, now)
    do, colon, command = do.partition(": kubectl ")
    command = f"kubectl {command}" if colon else ""
    following = _next(status, known, now)
    return Explanation(users, since, because, _shares(status), _brief(status), do, command, following, urgency)


# -- is anyone hurt ---------------------------------------------------------------------------------------------------
def _users(status: ModelReleaseStatus) -> tuple[Users, datetime | None, str]:
    candidate, stable, serving = status.candidate, status.stable, condition(status, "Serving")
    since = serving.last_transition_time if serving else None
    if serving is None or (serving.status == "False" and serving.reason == Reason.NOTHING_SERVES):
        return Users.NOBODY, since, "nothing has traffic yet"
    if serving.status == "False":
        bare = next((r for r in (stable, candidate) if r and weight(status, r) > 0 and r.ready == 0), None)
        return Users.HURT, since, f"no pod of v{bare.version} is ready" if bare else serving.message
    back = candidate.returning if candidate else None
    if candidate is not None and back is not None and back.outcome is Outcome.ROLLED_BACK:
        if back.confirmed_at is not None:
            return Users.SAFE, back.confirmed_at, ""
        had = next((item.weight for item in reversed(candidate.timeline) if item.weight > 0), 0)
        upto = f"up to {had}%" if had else "some"
        fares = Users.UNKNOWN if back.reason in _BY_A_PERSON else Users.HURT
        return fares, back.since, f"{upto} still on v{candidate.version}"
    failed = next((item for item in status.quarantine if stable is not None and item.key == stable.key), None)
    if failed is not None and failed.outcome == "Blocked":
        return Users.HURT, failed.since, f"v{failed.version} fails, and nothing else can serve"
    if any(item.verdict == "Fail" for item in status.checks) and weight(status, candidate) > 0:
        return Users.HURT, exposed_since(status), "a check has failed"
    if serving.status == "Unknown":
        return Users.UNKNOWN, since, "the route is refused"
    evidence = condition(status, "EvidenceAvailable")
    if candidate is not None and weight(status, candidate) > 0 and evidence is not None and evidence.status == "False":
        words = f"nobody sees how v{candidate.version}'s {weight(status, candidate)}% fare"
        return Users.UNKNOWN, evidence.last_transition_time, words
    rollback = status.last_rollback
    if phase_of(status) is Phase.ROLLED_BACK and rollback is not None and rollback.routed_at is not None:
        since = rollback.routed_at
    return Users.SAFE, since, ""


def _shares(status: ModelReleaseStatus) -> str:
    roles = [role for role in (status.stable, status.candidate) if role is not None and weight(status, role) > 0]
    return "; ".join(f"{weight(status, role)}% on v{role.version}, {_ready(role)}" for role in roles)


def _brief(status: ModelReleaseStatus) -> str:
    roles = [role for role in (status.stable, status.candidate) if role is not None and weight(status, role) > 0]
    return ", ".join(f"v{role.version} {weight(status, role)}% {role.ready}/{role.replicas}" for role in roles)


def _ready(role: RevisionStatus) -> str:
    return f"{role.ready}/{role.replicas} ready"


# -- what has to be done ----------------------------------------------------------------------------------------------
_TO_DO: Mapping[Reason, str] = {
    Reason.INVALID_SPEC: "correct the spec as the reason says",
    Reason.TEMPLATE_REFUSED: "correct spec.workload.template as the reason says",
    Reason.CUSTOM_QUERIES_NOT_ALLOWED: "use another kind of check, or have allowCustomQueries set in the policy",
    Reason.POLICY_NOT_FOUND: "create the ReleasePolicy, or remove spec.policyRef",
    Reason.NAME_CONFLICT: "delete or rename the object that is in the way",
    Reason.NOT_APPLIED: "see why the API server refuses the objects",
    Reason.ROUTE_NOT_FOUND: "create the HTTPRoute or rule that spec.traffic.httpRoute names",
    Reason.SUSPENDED: "set spec.suspend to false when it shall go on",
    Reason.PAUSED: "resume when it shall go on: kubectl modelrelease resume {name} {where}",
    Reason.MODEL_NOT_FOUND: "register the model, or correct spec.model",
    Reason.VERSION_NOT_FOUND: "register the version, or correct spec.model",
    Reason.ALIAS_NOT_FOUND: "set the alias in the registry, or correct spec.model.alias",
    Reason.SOURCE_REFUSED: "register the version with a source that is allowed",
    Reason.REGISTRY_UNREACHABLE: "see whether the registry answers; it goes on by itself",
    Reason.REGISTRY_UNAUTHORIZED: "give the operator credentials that the registry takes",
    Reason.REGISTRY_REFUSED_HOST: "let the registry accept the host name that it is asked by",
    Reason.REGISTRY_TLS_FAILED: "mend the registry's certificate, or the CA given for it",
    Reason.REGISTRY_ERROR: "see the registry's log; it goes on by itself",
    Reason.REGISTRY_NOT_ALLOWED: "have the registry allowed for this namespace",
    Reason.ENDPOINT_NOT_CONFIGURED: "configure the endpoint that the reason names",
    Reason.ENDPOINT_LIMIT_REACHED: "use endpoints that others use already, or have the limit raised",
    Reason.SECRET_MISSING: "create the Secret that the reason names",
    Reason.GATE_FAILED: "register a better version, or edit spec.gates",
    Reason.GATE_REVOKED: "decide whether it may stay: a gate that it had passed fails now: "
    "kubectl modelrelease abort {name} {where}",
    Reason.APPROVAL_MISSING: "have somebody approve it who may: kubectl modelrelease approve {name} {where}",
    Reason.POLICY_UNREADABLE: "correct the ReleasePolicy that the reason names, or update the operator",
    Reason.GATES_UNAVAILABLE: "see whether the registry answers; it goes on by itself",
    Reason.UNSCHEDULABLE: "make room or add nodes; it goes on by itself",
    Reason.CONFIG_ERROR: "create what the pods miss: kubectl describe pods {where} -l {pods}",
    Reason.IMAGE_PULL_FAILED: "see why the image cannot be pulled: kubectl describe pods {where} -l {pods}",
    Reason.PODS_REFUSED: "raise the quota, or correct what admission refuses",
    Reason.ROUTE_NOT_ACCEPTED: "see why the gateway refuses it: kubectl describe httproute {name} {where}",
    Reason.TRAFFIC_MISSING: "see why no requests reach it, or why its server counts none; it is tried again by itself",
    Reason.NO_DATA: "see whether its pods are scraped and users send requests; it goes on by itself",
    Reason.PROMETHEUS_UNREACHABLE: "see whether Prometheus answers; it goes on by itself",
    Reason.PROMETHEUS_UNAUTHORIZED: "give the operator credentials that Prometheus takes",
    Reason.PROMETHEUS_TLS_FAILED: "mend Prometheus' certificate, or the CA given for it",
    Reason.PROMETHEUS_NOT_ALLOWED: "have the Prometheus allowed for this namespace",
    Reason.PROMETHEUS_ERROR: "see what Prometheus complains of; it goes on by itself",
    Reason.INCONCLUSIVE: "decide whether to go on (promote) or back (abort): "
    "kubectl modelrelease promote {name} {where}",
    Reason.PARITY_OWED: "nothing if requests are all it lacks; else change the phases, or promote without",
}
"""By reason, while it rests and no user is hurt. What is not listed asks for nobody unless its phase does."""
_BY_PHASE: Mapping[str, str] = {
    Phase.BLOCKED: "release another version, or edit the gates",
    Phase.INVALID: "correct the spec as the reason says",
    Phase.ROLLED_BACK: "nothing tonight. Then release another version, or try it again: "
    "kubectl modelrelease retry {name} {where}",
}
_BY_ITSELF = frozenset({Reason.PARITY_OWED})
_BY_A_PERSON = frozenset({Reason.ABORTED.value, Reason.ROLLBACK_REQUESTED.value})


def _to_do(status: ModelReleaseStatus, users: Users, known: Known, now: datetime) -> tuple[Urgency, str]:
    phase, reason = phase_of(status), reason_of(status)
    if not status.conditions:
        return Urgency.SOON, "see whether the operator runs: it has said nothing of this release yet"
    role = status.candidate or status.stable
    words = {"name": known.name, "pods": _pods(known, role), "where": f"-n {known.namespace}"}
    if users is Users.HURT:
        return Urgency.NOW, _against_harm(status, known, now)
    if phase in _BY_PHASE and reason is not Reason.GATE_FAILED and phase is not Phase.INVALID:
        return Urgency.LATER, _BY_PHASE[phase].format(**words)
    if phase is Phase.PROMOTED or reason in _BY_ITSELF:
        short = status.stable is not None and status.stable.ready < status.stable.replicas
        if phase is Phase.PROMOTED and short:
            return Urgency.SOON, f"see why pods are not ready: kubectl get pods -n {known.namespace} -l {words['pods']}"
        if reason not in _TO_DO:
            return Urgency.STEADY, "nothing"
        return Urgency.MOVING, _TO_DO[reason].format(**words)
    if reason in _TO_DO:
        urgency = Urgency.LATER if phase in (Phase.BLOCKED, Phase.INVALID) else Urgency.SOON
        return urgency, _TO_DO[reason].format(**words)
    if phase in _BY_PHASE:
        return Urgency.LATER, _BY_PHASE[phase].format(**words)
    return _while_moving(status, reason, now, known)


def _while_moving(status: ModelReleaseStatus, reason: Reason, now: datetime, known: Known) -> tuple[Urgency, str]:
    traffic = status.traffic
    late = traffic is not None and traffic.confirmed_at is None and now - traffic.set_at > PATIENCE_WITH_GATEWAY
    if late and traffic is not None:
        words = f"see why the gateway has not taken the weights for {span(now - traffic.set_at)}"
        return Urgency.SOON, f"{words}: kubectl describe httproute {traffic.route or known.name} -n {known.namespace}"
    if reason is Reason.UNKNOWN and phase_of(status) is Phase.HELD:
        return Urgency.SOON, "see the reason below: this version of the plugin does not know it"
    return Urgency.MOVING, "nothing"


def _pods(known: Known, role: RevisionStatus | None) -> str:
    """A label selector: a revision's digest is unique, and short enough for one line."""
    return f"modelrelease.dev/revision={role.revision}" if role else f"modelrelease.dev/name={known.name}"


def _against_harm(status: ModelReleaseStatus, known: Known, now: datetime) -> str:
    candidate, stable, serving = status.candidate, status.stable, condition(status, "Serving")
    if serving is not None and serving.status == "False":
        if candidate is None and status.phase == "Blocked":
            return "release a version that works now: set spec.model.version"
        bare = next(
            (r for r in (stable, candidate) if r and weight(status, r) > 0 and r.ready == 0), stable or candidate
        )
        return f"bring its pods back now: kubectl describe pods -n {known.namespace} -l {_pods(known, bare)}"
    back = candidate.returning if candidate else None
    if back is not None:
        route = (status.traffic.route if status.traffic else None) or known.name
        if now - back.since > PATIENCE_WITH_GATEWAY:
            words = "see now why the gateway does not take the weights"
            return f"{words}: kubectl describe httproute {route} -n {known.namespace}"
        return "nothing yet: the traffic is on its way back"
    if candidate is None and phase_of(status) is Phase.BLOCKED:
        return "release a version that works now: set spec.model.version"
    return "nothing yet: the operator is about to take the traffic back"


# -- what happens next ------------------------------------------------------------------------------------------------
_SO_LONG = "for as long as the reason below holds"


def _next(status: ModelReleaseStatus, known: Known, now: datetime) -> str:
    candidate, serving = status.candidate, condition(status, "Serving")
    if candidate is None and serving is not None and serving.reason == Reason.NOT_SERVING and status.stable:
        return f"v{status.stable.version} serves again as soon as one of its pods is ready"
    if candidate is None:
        return _next_at_rest(status)
    match candidate.stage:
        case Stage.GATING:
            return _next_of_gating(status, candidate)
        case Stage.STARTING:
            return _next_of_starting(status, candidate, known, now)
        case Stage.SHIFTING:
            return _next_of_shifting(status, candidate, known, now)
        case Stage.BAKING:
            return _next_of_bake(status, candidate, known, now)
        case Stage.RETURNING:
            return _next_of_return(status, candidate, known, now)


def _next_at_rest(status: ModelReleaseStatus) -> str:
    match phase_of(status):
        case Phase.PROMOTED:
            previous = status.previous
            if reason_of(status) is Reason.DRAINING and previous is not None:
                return f"the last requests on v{previous.version} end, then its pods go"
            return "nothing, until the spec asks for something else"
        case Phase.ROLLED_BACK | Phase.BLOCKED:
            return "nothing, until the spec asks for something else or somebody lifts the quarantine"
        case Phase.INVALID:
            return "nothing moves until the spec is right; what serves goes on serving"
        case Phase.PENDING if reason_of(status) is Reason.SUSPENDED:
            return "nothing, while spec.suspend is true"
        case Phase.PENDING:
            return "the rollout begins by itself as soon as the reason below is gone"
        case _:
            return "the registry is asked again by itself, and the rollout begins once it has answered"


def _next_of_gating(status: ModelReleaseStatus, candidate: CandidateStatus) -> str:
    if phase_of(status) is Phase.BLOCKED:
        return "its gates are read again by themselves: a corrected evaluation lets it go on"
    if phase_of(status) in (Phase.PENDING, Phase.HELD):
        return f"pods of v{candidate.version} start as soon as the reason below is gone"
    return f"its gates are read again by themselves; once they pass, pods of v{candidate.version} start"


def _next_of_starting(status: ModelReleaseStatus, candidate: CandidateStatus, known: Known, now: datetime) -> str:
    retreat = candidate.retreat
    if retreat is not None and retreat.until > now:
        return f"v{candidate.version} is given traffic again at {until(retreat.until, now)}"
    if phase_of(status) is Phase.HELD:
        return f"the weight of v{candidate.version} stays at {weight(status, candidate)}% {_SO_LONG}"
    gets = f"{status.step.weight}%" if status.step else "its traffic"
    pods = "1 pod is" if candidate.replicas == 1 else f"{candidate.replicas} pods are"
    words = f"v{candidate.version} gets {gets} once {pods} ready"
    if candidate.ready_since is not None:
        return f"v{candidate.version} gets {gets} once it has warmed up"
    if known.deadline is not None and candidate.clock_runs:
        at = now + known.deadline - waited(candidate, now)
        return f"{words}; if not by {until(at, now)}, it is rolled back"
    return words


def _next_of_shifting(status: ModelReleaseStatus, candidate: CandidateStatus, known: Known, now: datetime) -> str:
    traffic, reason = status.traffic, reason_of(status)
    if traffic is not None and traffic.confirmed_at is None:
        if reason is Reason.ROUTE_NOT_ACCEPTED:
            return f"v{candidate.version} gets its traffic as soon as the gateway accepts the route"
        return "the gateway confirms the weights, usually within seconds"
    phase, last = known.leg(candidate.step), candidate.step >= len(known.legs) - 1
    held = f"the weight stays at {weight(status, candidate)}%"
    if phase_of(status) is Phase.HELD and reason is Reason.WAITING_FOR_EVIDENCE:
        check = deciding(status)
        more = f"about {check.requests_needed:,} more requests" if check and check.requests_needed else "more requests"
        long = takes(status, check, now) if check else None
        words = f"{more} decide" + (f", about {roughly(long)} at the present traffic" if long else "")
        if phase is None or not candidate.clock_runs:
            return words
        at = now + phase.timeout - waited(candidate, now)
        then = {"Hold": "then a person decides", "Rollback": "then it is rolled back", "Promote": "then it goes on"}
        return f"{words}; phase {phase.name} waits until {until(at, now)}, {then.get(known.inconclusive, then['Hold'])}"
    if phase_of(status) in (Phase.HELD, Phase.PENDING, Phase.INVALID) or phase is None:
        return f"{held} {_SO_LONG}"
    at = now + phase.duration - waited(candidate, now)
    following = "then it bakes"
    if not last:
        after = known.legs[candidate.step + 1]
        following = f"then {after.name}" + ("" if after.parity else f", {after.weight}%")
    return f"phase {phase.name} ends at {until(at, now)}, if its checks have passed; {following}"


def _next_of_bake(status: ModelReleaseStatus, candidate: CandidateStatus, known: Known, now: datetime) -> str:
    left = known.bake - waited(candidate, now) if known.bake is not None else None
    former = f", and v{status.stable.version} ends" if status.stable else ""
    if phase_of(status) is Phase.HELD:
        rest = f", {span(left)} of the bake are left" if left is not None else ""
        return f"the bake goes on when the reason below is gone{rest}"
    if left is None:
        return f"v{candidate.version} is promoted when the bake ends{former}"
    return f"v{candidate.version} is promoted at {until(now + left, now)}{former}"


def _next_of_return(status: ModelReleaseStatus, candidate: CandidateStatus, known: Known, now: datetime) -> str:
    back = candidate.returning
    assert back is not None, "this stage has a return"
    if back.confirmed_at is None:
        to = f"v{status.stable.version}" if status.stable else "stable"
        return f"the gateway sends all traffic to {to}, then requests on v{candidate.version} may end"
    if known.drain is None:
        return f"requests in flight on v{candidate.version} end, then its pods go"
    at = back.confirmed_at + known.drain
    most = f"within {span(at - now)} ({clock(at, now)})" if at > now else "now"
    return f"requests in flight on v{candidate.version} end {most}, then its pods go"
