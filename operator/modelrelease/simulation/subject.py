"""What is simulated: one release as it would be rolled out, without what only a cluster, a registry or people can tell.

Gates are taken to pass, the registry's alias is not moved and suspend is off. A version serves already, as most
releases find it. Checks, margins, phases, bake and onInconclusive are those that the operator would use.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelrelease.api.checks import Check
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.core import plan
from modelrelease.core.revision import Revision, desired


@dataclass(frozen=True, slots=True)
class Subject:
    """A release that is ready to be played. skipped: how many gates of release and policy are taken to pass."""

    name: str
    namespace: str
    spec: ModelReleaseSpec
    policy: ReleasePolicySpec | None
    stable: Revision
    candidate: Revision
    skipped: int

    @property
    def checks(self) -> tuple[Check, ...]:
        """The effective checks that count bad ones among all, those of the runtime or the policy included."""
        return tuple(check for check in self.candidate.checks if check.gauge is None)

    @property
    def gauges(self) -> tuple[str, ...]:
        """The checks of a gauge. No law is known for them: both arms show the same value."""
        return tuple(check.name for check in self.candidate.checks if check.gauge is not None)

    @property
    def replicas(self) -> int:
        """Pods of a whole revision."""
        return plan.replicas(self.spec)


def subject(name: str, namespace: str, spec: ModelReleaseSpec, policy: ReleasePolicySpec | None) -> Subject:
    """Prepare a release. policy: the one that spec.policyRef names, None where it names none.

    Raises ValueError where the policy is missing.
    """
    if spec.policy_ref is not None and policy is None:
        raise ValueError(
            f"spec.policyRef names the ReleasePolicy {spec.policy_ref.name}, whose checks and phases count: "
            "give its file too, with another -f"
        )
    version = int(spec.model.version) if spec.model.version is not None else 2
    model = spec.model.model_copy(update={"version": version, "alias": None})
    plain = spec.model_copy(update={"model": model, "gates": (), "registry": None, "suspend": False})
    shared = policy.model_copy(update={"gates": ()}) if policy is not None else None
    skipped = len(spec.gates) + (len(policy.gates) if policy is not None else 0)
    return Subject(
        name=name,
        namespace=namespace,
        spec=plain,
        policy=shared,
        stable=desired(name, plain, shared, str(version - 1), uri="models:/stable"),
        candidate=desired(name, plain, shared, str(version), uri="models:/candidate"),
        skipped=skipped,
    )
