"""ReleaseApproval: a person's yes or no to one revision at one gate. Nobody ever changes one.

Here: the object, the gate that asks for it, what a record keeps of it, and the rules of admission that make it worth
something. An object can say anything; that it says the truth about who wrote it is the work of ADMISSION, a
ValidatingAdmissionPolicy of the chart. Whether that is in force is looked at in the clients, what an approval counts
for is decided in `core.gates.approval`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .base import GROUP, Name, Phrase, Sentence, SpecModel, StatusModel, Time, Word, rule, validations

DIGEST_PATTERN = r"^[0-9a-f]{10}$"
APPROVALS_MAX = 16
"""The most approvals that a gate may ask for, and that a status keeps of one rollout."""
USER_MAX = 512
GROUP_MAX = 256

Decision = Literal["Approve", "Deny"]
Group = Annotated[str, Field(min_length=1, max_length=GROUP_MAX)]
_Digest = Annotated[str, Field(max_length=10, pattern=DIGEST_PATTERN)]


class ApprovalGate(SpecModel):
    """People must agree."""

    count: int = Field(1, ge=1, le=APPROVALS_MAX, description="How many different users must approve.")
    group: Group | None = Field(
        None,
        description="Group of the cluster's users that each of them must belong to and approve for. Default: whoever "
        "may create ReleaseApprovals in the namespace.",
    )
    before_phase: Name | None = Field(
        None,
        description="Phase before whose weight the approvals must be there; the phases before it need none. Default: "
        "they must be there before the first pod.",
    )
    separate_duties: bool = Field(
        False,
        description="True counts only approvals of users who could not write the ModelRelease themselves when they "
        "approved.",
    )


class Approver(SpecModel):
    """Who says so; the admission policy refuses a lie."""

    username: str = Field(
        min_length=1,
        max_length=USER_MAX,
        description="User name as the API server authenticates it: `kubectl auth whoami`.",
    )
    group: Group | None = Field(None, description="The group, one of the user's, that the approval is given for.")


class ReleaseApprovalSpec(SpecModel):
    """Yes or no to one revision at one gate."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("self == oldSelf", "a ReleaseApproval never changes; delete it and create another one")
        )
    )

    release: str = Field(min_length=1, max_length=63, description="Name of the ModelRelease, in the same namespace.")
    revision: _Digest = Field(description="status.candidate.revision of it: what would run.")
    rules: _Digest = Field(description="status.candidate.rules of it: how it is judged, this gate included.")
    gate: str = Field(
        min_length=1,
        max_length=128,
        description="Name of the gate as in status.gates, so <policy>/<name> for a policy's.",
    )
    decision: Decision = Field(description="Approve, or Deny, which fails the gate until it is deleted.")
    comment: str = Field("", max_length=256, description="Words for those who ask later.")
    approver: Approver = Field(description="Who says so.")
    duties_separated: bool = Field(
        False,
        description="True says that the user may not write the ModelRelease; gates with separateDuties count no other "
        "approvals.",
    )


class RecordedApproval(StatusModel):
    """A yes or no of a person."""

    name: Phrase = Field(description="Name of the ReleaseApproval.")
    gate: Word = Field(description="The gate that it was for.")
    decision: Word = Field(description="Approve or Deny.")
    user: Sentence = Field(description="Who said so, as the API server authenticated them.")
    group: Phrase | None = Field(None, description="The group that they spoke for.")
    reason: Sentence = Field("", description="Their words.")
    at: Time = Field(description="When.")


# -- what admission must enforce ------------------------------------------------------------------------------------
_NEW = "oldObject != null || "
_WRITES = "authorizer.group('{group}').resource('modelreleases').namespace(request.namespace).name(object.spec.release)"


def _cannot(verb: str) -> str:
    """An answer that the authorizer could not work out is no proof of separate duties.

    One verb a rule: a question costs 350,000 of the 1,000,000 that one expression may.
    """
    check = f"{_WRITES.format(group=GROUP)}.check('{verb}')"
    said = "!has(object.spec.dutiesSeparated) || !object.spec.dutiesSeparated"
    return f"{_NEW}{said} || !({check}.allowed() || {check}.errored())"


ADMISSION = (
    "oldObject == null || object.spec == oldObject.spec",
    f"{_NEW}object.spec.approver.username == request.userInfo.username",
    f"{_NEW}!has(object.spec.approver.group) || object.spec.approver.group in request.userInfo.groups",
    *(_cannot(verb) for verb in ("create", "update", "patch")),
)
"""CEL validations that the admission policy must have; the chart's are these, and the operator compares them."""
