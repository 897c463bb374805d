"""What serves is held against its gates from time to time, as the registry and other releases change under it.

The rules: nothing is done about it, it is only told; what cannot be read changes nothing that was told. There are no
comparisons with a champion here: what serves is the champion. Approvals are over with the promotion.
"""

from __future__ import annotations

from modelrelease.api.base import clip
from modelrelease.api.status import GateStatus, StableStatus

from . import gates
from .draft import Draft
from .observation import ModelVersion

_NAMED = 240


def reread(draft: Draft, stable: StableStatus) -> None:
    """Judge the gates of what serves again, once the registry was read after its promotion.

    `status.gates` goes on showing what let it through, with the champion's figures, as long as it passes.
    """
    revision = draft.revision(stable.key)
    if revision is None or draft.spec is None or draft.spec.model.name != revision.model:
        return
    rules = [gate for gate in revision.gates if gate.approval is None]
    if not rules:
        return
    read = draft.obs.registry.versions.get(stable.version)
    fresh = isinstance(read, ModelVersion) and read.read_at > stable.promoted_at
    if not fresh and gates.asks_registry(rules):
        return
    pinned = {item.source: item.digest for item in stable.artifact}
    context = gates.Context(draft.now, revision, None, pinned, draft.obs.releases)
    seen = gates.dated(draft.status.gates, gates.evaluate(rules, read, None, context), draft.now)
    failing = tuple(gate for gate in seen if gate.verdict in ("Fail", "InsufficientData") and not gate.advisory)
    if not failing and any(gate.verdict in ("Unavailable", "Waiting") and not gate.advisory for gate in seen):
        return
    if failing or stable.no_longer_passes or not _passed(draft.status.gates, seen):
        kept = {gate.name: gate for gate in (*draft.status.gates, *seen)}
        draft.put(gates=tuple(kept[gate.name] for gate in revision.gates if gate.name in kept))
    named = clip(", ".join(gate.name for gate in failing), _NAMED)
    draft.put(stable=stable.model_copy(update={"no_longer_passes": named}))


def _passed(shown: tuple[GateStatus, ...], seen: tuple[GateStatus, ...]) -> bool:
    """Whether status already shows these gates, and that they passed."""
    told = {gate.name: gate.verdict for gate in shown}
    return all(told.get(gate.name) == "Pass" for gate in seen if not gate.advisory)
