"""Hypothesis profiles (default `ci`: the same steps every time; `deep`: many more, new ones each time), and a count."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.sim import counting

_ALWAYS = settings(
    deadline=None, suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
)
settings.register_profile("ci", _ALWAYS, derandomize=True, max_examples=100, stateful_step_count=40)
settings.register_profile("deep", _ALWAYS, max_examples=3000, stateful_step_count=60)
settings.load_profile("ci")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried."""
    if counting.STEPS:
        terminalreporter.write_line(f"Hypothesis steps run: {counting.STEPS}")
