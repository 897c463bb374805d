"""The bucket bounds, in seconds, of the histograms that the runtimes export by default.

A latency check is counted at a bound: one that is none is judged at the next lower one. Only what the servers' own code
fixes stands here; what a middleware or a person chooses (http, triton) is not known beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping

_VLLM_LONG = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_VLLM_FIRST = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
_VLLM_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_SGLANG_FIRST = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)

BUCKETS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "vllm": {
        "requestDuration": _VLLM_LONG,
        "queueTime": _VLLM_LONG,
        "timeToFirstToken": _VLLM_FIRST,
        "timePerOutputToken": _VLLM_TOKEN,
    },
    "sglang": {
        "requestDuration": (*_SGLANG_FIRST, 600, 1200, 1800, 2400),
        "timeToFirstToken": _SGLANG_FIRST,
    },
}
"""By runtime, then by the latency that a check names."""
