"""What tests of every kind share: one MLflow server for all of a process, models trained on it once."""

pytest_plugins = ("e2e.local_fixtures",)
