"""What should happen, as pure functions of values: no I/O, no clock, no randomness; imports only `api`."""
