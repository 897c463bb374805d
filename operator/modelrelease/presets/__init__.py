"""What each inference runtime calls its metrics, and its default ports, checks, warm-up and drain.

Pure data, used by `core`; one module a runtime. Metric names are those the servers export; where they come from is said
at each of them. The words are in `presets.metrics`.
"""

from __future__ import annotations

from .http import HTTP
from .metrics import Matcher, Preset, Selector
from .sglang import SGLANG
from .triton import TRITON
from .vllm import VLLM

__all__ = ["PRESETS", "Matcher", "Preset", "Selector", "preset"]

PRESETS = {made.name: made for made in (HTTP, VLLM, SGLANG, TRITON)}


def preset(runtime: str) -> Preset:
    """The preset of a runtime. Raises KeyError for one that the schema does not know."""
    return PRESETS[runtime]
