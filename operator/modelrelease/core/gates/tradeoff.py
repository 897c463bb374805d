"""What a candidate gains and loses against the champion, over several objectives, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from modelrelease.api.status import GateStatus

_SHOWN = 8


def tradeoff(statuses: Sequence[GateStatus]) -> str:
    """`helpfulness +3.0 %, safety -1.0 %`: the change of every value against the champion's, in the order of the gates.

    Of slices it is the worst one's. Absolute where the champion's value is 0. Empty with fewer than two such values:
    then nothing is traded.
    """
    changes = [
        f"{item.name} {_change(item.value, item.champion)}"
        for item in statuses
        if item.value is not None and item.champion is not None
    ]
    if len(changes) < 2:
        return ""
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return ", ".join(changes[:_SHOWN]) + more


def _change(value: float, champion: float) -> str:
    if champion == 0:
        return f"{value:+.4g}"
    return f"{100 * (value - champion) / abs(champion):+.1f} %"
