"""How many steps of the state machine were run; shown at the end of a test run (tests/conftest.py)."""

STEPS = 0
