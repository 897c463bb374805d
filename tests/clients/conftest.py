"""Fixtures of the client tests: the real systems that the clients talk to."""

from e2e.local_fixtures import mlflow_server, trained

__all__ = ["mlflow_server", "trained"]
