"""Keeps a status within 64 KiB, whatever people have named and however many rules they wrote.

Only texts for people get shorter, and only where there are very many of them: verdicts, figures, evidence, commands and
everything else that a decision depends on stay, and so does the message of the phase. The queries of checks go first.
Where even that is too much, the ended rollouts that wait for their records lose their details, the oldest first.
"""

from __future__ import annotations

from collections.abc import Callable

from modelrelease.api.status import ModelReleaseStatus

LIMIT_BYTES = 60 * 1024
"""Of 64 KiB; texts that must stay may still grow a little."""
_FEW = 32  # so many entries of every list together fit with their longest texts
_LEVELS = (96, 32, 12)  # characters left of each text
_CONDITION_FACTOR = 4
_DETAILS = ("dataset", "source", "run", "origin", "read_at", "samples", "champion_samples")
"""Of a gate; a policy's gate bears its name all the same."""
_EXPLAINS = ("query", "pods", "detectable", "load", "left_out", "origin")  # of a check; its message says the most of it


def fit(status: ModelReleaseStatus) -> ModelReleaseStatus:
    """The status with texts shortened as far as its size asks for; the same object where it asks for nothing."""
    lists = (status.gates, status.checks, status.history, status.quarantine, status.commands)
    if sum(len(items) for items in lists) + 2 * len(status.checks) <= _FEW and not status.endings:
        return status
    if _size(status) <= LIMIT_BYTES:
        return status
    bare = [item.model_copy(update=dict.fromkeys(_EXPLAINS)) for item in status.checks]
    status = fitting = status.model_copy(update={"checks": tuple(bare)})
    for level in _LEVELS:
        if _size(fitting) <= LIMIT_BYTES:
            return fitting
        fitting = _shortened(status, level)
    for number in range(len(fitting.endings)):
        if _size(fitting) <= LIMIT_BYTES:
            return fitting
        endings = list(fitting.endings)
        endings[number] = endings[number].model_copy(update={"details": None})
        fitting = fitting.model_copy(update={"endings": tuple(endings)})
    return fitting


def _size(status: ModelReleaseStatus) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def _shortened(status: ModelReleaseStatus, level: int) -> ModelReleaseStatus:
    short = _to(level)
    longer = _to(level * _CONDITION_FACTOR)
    dropped = dict.fromkeys(_DETAILS)
    gates = [item.model_copy(update={"message": short(item.message), **dropped}) for item in status.gates]
    return status.model_copy(
        update={
            "gates": tuple(gates),
            "checks": tuple(item.model_copy(update={"message": short(item.message)}) for item in status.checks),
            "history": tuple(item.model_copy(update={"message": short(item.message)}) for item in status.history),
            "quarantine": tuple(item.model_copy(update={"message": short(item.message)}) for item in status.quarantine),
            "commands": tuple(item.model_copy(update={"result": short(item.result)}) for item in status.commands),
            "conditions": tuple(
                item.model_copy(update={"message": longer(item.message)}) for item in status.conditions
            ),
        }
    )


def _to(size: int) -> Callable[[str], str]:
    def cut(text: str) -> str:
        encoded = text.encode()
        return text if len(encoded) <= size else encoded[: size - 3].decode(errors="ignore") + "…"

    return cut
