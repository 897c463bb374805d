"""Trains the candidates, evaluates them honestly and registers them in MLflow.

Here lives what each candidate is and what is logged about it; the data are in `scans`. Rule kept: every number logged
was measured on the model that was logged, on the holdout, by the same code for every candidate.

Metrics are logged twice over: on the LoggedModel per dataset (`accuracy` on `holdout`, on `night`, ...), and by name
for the slices (`slice/night/recall`, `slice/night/n`). A run keeps one value a name whatever the dataset, so the
holdout comes last.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped]
import mlflow
import mlflow.sklearn
import numpy as np
from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.models.signature import ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from sklearn.impute import SimpleImputer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import accuracy_score, recall_score  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline, make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
from sklearn.svm import SVC  # type: ignore[import-untyped]

from e2e.training import scans, transforms
from e2e.training.scans import Labelled
from e2e.training.transforms import HistogramEqualizer, ReferenceEmbedding

MODEL_NAME = "digits"
EXPERIMENT = "digits"
FEATURE_SET = "pixels-8x8/1"
PACKAGES = ("mlflow", "scikit-learn", "numpy", "cloudpickle")
REPOSITORY = Path(__file__).resolve().parents[2]

_SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float64), (-1, 64))]), outputs=Schema([TensorSpec(np.dtype(np.int64), (-1,))])
)
_TAG_CANDIDATE, _TAG_RECIPE = "training.candidate", "training.recipe"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model to register, and the data that it learns from."""

    name: str
    description: str
    pipeline: Callable[[], Pipeline]
    images: int = 900
    night_images: int | None = None


@dataclass(frozen=True, slots=True)
class TrainedVersion:
    """A registered version of MODEL_NAME."""

    version: int
    uri: str
    """`models:/m-…`, the LoggedModel that the version names."""
    metrics: dict[str, float] = field(repr=False)
    """The run's metrics, which are those of the whole holdout and of its slices."""


def _imputer() -> SimpleImputer:
    return SimpleImputer(strategy="constant", fill_value=0.0)  # a dead pixel reads as dark


def _linear() -> Pipeline:
    return make_pipeline(_imputer(), StandardScaler(), LogisticRegression(C=0.01, max_iter=500))


CANDIDATES = (
    Candidate("first", "Linear model on the first 400 images of each condition.", _linear, images=400),
    Candidate("better", "The same linear model on all 900 images of each condition.", _linear),
    Candidate(
        "night-blind",
        "Support vector machine. The clean-up of its training data took most night scans for faulty: 100 are left.",
        lambda: make_pipeline(_imputer(), SVC(C=5, gamma=0.001)),
        night_images=100,
    ),
    Candidate(
        "slow",
        "Support vector machine on an embedding relative to reference scans.",
        lambda: make_pipeline(_imputer(), ReferenceEmbedding(), SVC(C=10)),
    ),
    Candidate(
        "brittle",
        "Support vector machine on scans with equalized brightness.",
        lambda: make_pipeline(HistogramEqualizer(), _imputer(), SVC(C=5, gamma=0.0005)),
    ),
)
"""In the order of their versions. `slow` and `brittle` pass every offline comparison; see `transforms` for what is
wrong."""


def train_all(tracking_uri: str) -> dict[str, TrainedVersion]:
    """Register every candidate of CANDIDATES as a version of MODEL_NAME, and return the versions by candidate name.

    Idempotent: a candidate that this same code registered before is found again, not trained. The alias `champion` is
    set to the first candidate when nobody has set it. Raises MlflowException when the server cannot be reached.
    """
    with _talking_to(tracking_uri):
        client = MlflowClient()
        found = {
            version.tags[_TAG_CANDIDATE]: version
            for version in client.search_model_versions(f"name = '{MODEL_NAME}'")
            if version.tags.get(_TAG_RECIPE) == _recipe()
        }
        trained = {
            candidate.name: _describe(client, found.get(candidate.name) or _register(client, candidate))
            for candidate in CANDIDATES
        }
        _set_first_champion(client, trained[CANDIDATES[0].name].version)
        return trained


@contextmanager
def _talking_to(tracking_uri: str) -> Iterator[None]:
    """MLflow's fluent functions know one server a process: point them there, quietly, and back again."""
    before, mlflow_log = mlflow.get_tracking_uri(), logging.getLogger("mlflow")
    level = mlflow_log.level
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    mlflow.set_tracking_uri(tracking_uri)
    mlflow_log.setLevel(logging.ERROR)  # it warns of pickles, which are the point here
    try:
        yield
    finally:
        mlflow_log.setLevel(level)
        mlflow.set_tracking_uri(before)


def _register(client: MlflowClient, candidate: Candidate) -> ModelVersion:
    data = scans.training_set(candidate.images, night_images=candidate.night_images)
    pipeline = candidate.pipeline().fit(data.scans, data.labels)
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=candidate.name, tags=_lineage(), description=candidate.description) as run:
        mlflow.log_params({"images": len(data), "night_images": candidate.night_images or candidate.images})
        mlflow.log_input(_dataset("training", data), context="training", tags=_quality(data))
        model = _log_model(pipeline, candidate)
        _evaluate(pipeline, model.model_id)
    try:
        client.create_registered_model(MODEL_NAME, description="Reads a digit from an 8x8 scan, by day and by night.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        MODEL_NAME,
        source=model.model_uri,
        run_id=run.info.run_id,
        model_id=model.model_id,
        description=candidate.description,
        tags={_TAG_CANDIDATE: candidate.name, _TAG_RECIPE: _recipe(), "eval.status": "complete"},
    )


def _log_model(pipeline: Pipeline, candidate: Candidate) -> ModelInfo:
    model: ModelInfo = mlflow.sklearn.log_model(
        pipeline,
        name=candidate.name,
        serialization_format="cloudpickle",
        signature=_SIGNATURE,
        input_example=scans.holdout()["day"].scans[:1],
        pip_requirements=[f"{package}=={_installed(package)}" for package in PACKAGES],
    )
    return model


def _evaluate(pipeline: Pipeline, model_id: str) -> None:
    """Log the metrics of each condition, then those of the whole holdout."""
    parts = scans.holdout()
    whole = Labelled(
        np.vstack([part.scans for part in parts.values()]), np.concatenate([part.labels for part in parts.values()])
    )
    predicted = pipeline.predict(whole.scans)
    slices: dict[str, float] = {}
    start = 0
    for condition, part in parts.items():
        metrics = _score(part, predicted[start : start + len(part)])
        start += len(part)
        slices |= {f"slice/{condition}/recall": metrics["recall"], f"slice/{condition}/n": float(len(part))}
        dataset = _dataset(condition, part)
        mlflow.log_input(dataset, context="evaluation", tags=_quality(part))
        mlflow.log_metrics(metrics, dataset=dataset, model_id=model_id)
    dataset = _dataset("holdout", whole)
    mlflow.log_input(dataset, context="evaluation", tags=_quality(whole))
    mlflow.log_metrics(_score(whole, predicted) | slices, dataset=dataset, model_id=model_id)


def _score(data: Labelled, predicted: scans.Labels) -> dict[str, float]:
    """Accuracy, and recall as the mean over the ten digits."""
    return {
        "accuracy": float(accuracy_score(data.labels, predicted)),
        "recall": float(recall_score(data.labels, predicted, average="macro")),
        "n": float(len(data)),
    }


def _dataset(name: str, data: Labelled) -> Dataset:
    return from_numpy(data.scans, targets=data.labels, name=name)


def _quality(data: Labelled) -> dict[str, str]:
    completeness = 1 - float(np.isnan(data.scans).mean())
    return {"completeness": f"{completeness:.4f}", "documentation": "e2e/training/scans.py"}


def _lineage() -> dict[str, str]:
    """Tags that say where the code and the features came from; no commit outside a git checkout."""
    tags = {"features": FEATURE_SET}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.branch"] = _git("rev-parse", "--abbrev-ref", "HEAD")
        tags["mlflow.source.git.dirty"] = str(bool(_git("status", "--porcelain", "--", "e2e/training"))).lower()
    return tags


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _recipe() -> str:
    """A digest of the code that makes the models: other code, other versions."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _installed(package: str) -> str:
    return importlib.metadata.version(package)


def _describe(client: MlflowClient, version: ModelVersion) -> TrainedVersion:
    assert version.run_id is not None, "every version that this module registers has a run"
    assert version.source is not None, "every version that this module registers has a source"
    metrics = client.get_run(version.run_id).data.metrics
    return TrainedVersion(int(version.version), version.source, dict(metrics))


def _set_first_champion(client: MlflowClient, version: int) -> None:
    if "champion" not in client.get_registered_model(MODEL_NAME).aliases:
        client.set_registered_model_alias(MODEL_NAME, "champion", str(version))


# A model must be loadable where this package is not installed.
cloudpickle.register_pickle_by_value(transforms)
