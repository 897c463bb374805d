"""Online checks: evidence from polls, verdicts from evidence.

`advance` feeds polls into what is remembered of each check, `judge` reads verdicts off it. A rollback is decided over
all checks together (mean of e-values), a Pass for each check alone. No data is no verdict: it neither passes nor fails.
What is remembered is one compact string in status (`encode`, `decode`); polls after its time are fed in again, so that
whoever decides comes to the same verdict at the same poll. `forecast` says before a phase what it can show.

memory: what is kept, and its string. plans: what is fixed beforehand. feed: a poll. verdicts, suspects, words: what is
said. The statistics are in `core.evidence`.
"""

from .feed import NOBODY, Fleet, advance
from .memory import Evidence, begin, begin_phase, decode, encode
from .plans import ALPHA, Forecast, forecast, load_matters, plan, planned_polls
from .verdicts import Judgement, judge
from .words import share

__all__ = [
    "ALPHA",
    "NOBODY",
    "Evidence",
    "Fleet",
    "Forecast",
    "Judgement",
    "advance",
    "begin",
    "begin_phase",
    "decode",
    "encode",
    "forecast",
    "judge",
    "load_matters",
    "plan",
    "planned_polls",
    "share",
]
