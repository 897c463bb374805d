"""What of evidence and judgement a decision can depend on: while it stays the same, `decide` need not be asked.

What `core.exposure` watches is left out: in this world requests arrive and engines go on.

The rule: too much here costs time only, too little would change outcomes; tests play rollouts both ways and compare.
"""

from __future__ import annotations

import math
from dataclasses import fields

from modelrelease.core import checks
from modelrelease.core.checks.feed import is_heavy, is_light, is_safe, regression
from modelrelease.core.checks.memory import Shares
from modelrelease.core.revision import Revision

_BESIDE_CHECKS = tuple(item.name for item in fields(checks.Judgement) if item.name not in ("checks", "failed"))


def read(judgement: checks.Judgement) -> tuple[object, ...]:
    """All of a judgement that a decision can depend on: verdicts, not counts and sentences."""
    verdicts = tuple((item.verdict, item.reason) for item in judgement.checks)
    return (judgement.failed is None, verdicts, *(getattr(judgement, name) for name in _BESIDE_CHECKS))


def signs(evidence: checks.Evidence, revision: Revision) -> tuple[object, ...]:
    """What of the evidence verdicts are made of: a judgement, with its sentences, costs as much as three polls."""
    found: list[object] = [evidence.failed]
    for check in revision.checks:
        memory = evidence.checks[check.name]
        if isinstance(memory, Shares):
            polls = min(wealth.phase_polls for wealth in memory.wealths)
            suspicious = regression(memory) >= 1 / math.sqrt(checks.ALPHA)
            found += (is_safe(memory), is_light(memory), is_heavy(memory), memory.apart, memory.at_parity)
            found += (suspicious, polls >= check.min_polls)
        else:
            found += (min(memory.polls, memory.run, 100), memory.longest)
    return tuple(found)
