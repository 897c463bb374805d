"""Evaluations logged with mlflow's own client to a real server, and what a gate says after reading them back.

No tests here: those of each gate kind are in test_gates_*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.api.gates import Gate
from modelrelease.api.status import GateStatus
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.gates import Context, evaluate
from modelrelease.core.observation import Lookup

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
HOLDOUT = ("holdout", "h1")

Data = tuple[str, str] | None


@dataclass
class Registry:
    """A registered model of its own on a real server."""

    server: MlflowServer
    model: str = field(default_factory=lambda: f"model-{uuid4().hex[:10]}")

    def __post_init__(self) -> None:
        self.writer = MlflowClient(self.server.url)
        self.reader = RegistryClient(RegistryEndpoint(self.server.url))
        self.writer.create_registered_model(self.model)

    def evaluated(
        self,
        metrics: Mapping[str, float] | None = None,
        *,
        data: Data = HOLDOUT,
        also: Mapping[Data, Mapping[str, float]] | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """A new version whose LoggedModel has these metrics on a data set, and others on others; returns its number."""
        run = self.writer.create_run("0").info.run_id
        logged = self.writer.create_logged_model("0", name="m", source_run_id=run)
        for where, figures in {data: metrics or {}, **(also or {})}.items():
            named = {"dataset_name": where[0], "dataset_digest": where[1]} if where else {}
            for key, value in figures.items():
                self.writer.log_metric(run, key, value, model_id=logged.model_id, **named)
        self.writer.finalize_logged_model(logged.model_id, "READY")
        made = self.writer.create_model_version(
            self.model, f"models:/{logged.model_id}", run, model_id=logged.model_id, tags=tags
        )
        return str(made.version)

    def run_only(self, metrics: Mapping[str, float], *, with_model: bool = False) -> str:
        """A new version whose metrics were logged for its run and for no LoggedModel, which may exist all the same."""
        run = self.writer.create_run("0").info.run_id
        for key, value in metrics.items():
            self.writer.log_metric(run, key, value)
        if not with_model:
            return str(self.writer.create_model_version(self.model, f"runs:/{run}/model", run).version)
        logged = self.writer.create_logged_model("0", name="m", source_run_id=run).model_id
        self.writer.finalize_logged_model(logged, "READY")
        return str(self.writer.create_model_version(self.model, f"models:/{logged}", run, model_id=logged).version)

    def read(self, version: str | None) -> Lookup | None:
        """What the operator's client reads; None for no version."""
        return None if version is None else self.reader.read_version(self.model, version)

    def source(self, version: str) -> str:
        """What the pods of a version are given."""
        return str(self.writer.get_model_version(self.model, version).source)

    def read_served(self, version: str, source: str) -> Lookup:
        """What the operator's client reads of a champion whose metrics are all that is wanted."""
        return self.reader.read_version(self.model, version, frozenset(), source)

    def requests_of(self, action: Callable[[], object]) -> list[str]:
        """The paths that the server logged while this ran; its access log tells each one."""
        before = self._log()
        action()
        return [line.split('"')[1] for line in self._log()[len(before) :] if ' HTTP/1.1"' in line]

    def _log(self) -> list[str]:
        return self.server.log_path.read_text().splitlines()

    def says(self, rules: dict[str, Any], candidate: str, champion: str | None = None) -> GateStatus:
        """What a gate with these rules says of two versions, both read back from the server."""
        gate = Gate.model_validate({"name": "gate", **rules})
        (seen,) = evaluate([gate], self.read(candidate), self.read(champion), Context(NOW))
        return seen
