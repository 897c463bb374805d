"""The gate after: another ModelRelease of the namespace has to go first. Verdicts are in `core.gates.after`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import DNS_LABEL_PATTERN, Duration, SpecModel

_ReleaseName = Annotated[str, Field(min_length=1, max_length=52, pattern=DNS_LABEL_PATTERN)]


class AfterGate(SpecModel):
    """Another release serves the same version of the same model and has not gone back: waves over regions or pools."""

    release: _ReleaseName = Field(description="Name of the other ModelRelease, in the same namespace.")
    promoted_for: Duration = Field(
        "0s", description="How long ago it must have promoted the version, for example 1h. Default: at all."
    )
