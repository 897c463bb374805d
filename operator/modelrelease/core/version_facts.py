"""What the registry tells of a model version beside its metrics: its run, the data sets of it, its files.

Values only; `clients.registry_reading` builds them, `core.gates` and `core.lineage` judge and copy them. `Part` names
what costs requests of its own, so that only what some gate asks for is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CONTEXT_TAG = "mlflow.data.context"
_CONTEXTS = {
    "training": "training",
    "train": "training",
    "evaluation": "evaluation",
    "eval": "evaluation",
    "testing": "evaluation",
    "test": "evaluation",
    "validation": "evaluation",
}


class Part(StrEnum):
    """A part of a version that is read on demand; each is one request more (files: one for each folder)."""

    RUN = "run"
    MODEL_FILE = "modelFile"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class DatasetInput:
    """One data set that a run used, with the tags of that use; digest is MLflow's, empty where none was logged."""

    name: str
    digest: str
    source_type: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def context(self) -> str:
        """training, evaluation, or empty where the use was not told; MLflow's own shorter words are understood."""
        return _CONTEXTS.get(self.tags.get(CONTEXT_TAG, "").strip().lower(), "")

    @property
    def shown(self) -> str:
        """name@digest."""
        return f"{self.name}@{self.digest}" if self.digest else self.name


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run that made the version. deleted: in MLflow's bin, or gone for good; then the rest may be empty."""

    id: str
    deleted: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[DatasetInput, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The MLmodel file. digest: sha256 of its bytes. inputs, params: the signature's schemas as JSON text, None where
    the model has no signature (inputs) or takes no parameters (params)."""

    digest: str
    inputs: str | None = None
    params: str | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the model. size: bytes, None where the store does not tell."""

    path: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The registry cannot list the files of this version; `why` says what it would take."""

    why: str
