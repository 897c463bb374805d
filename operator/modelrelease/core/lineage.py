"""Where a model version comes from, as values that a record can keep.

Copied from what the registry says, nothing is judged here (`core.gates.lineage` does). What was not logged is None or
empty; every text and list is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelrelease.api.base import clip
from modelrelease.api.status import RecordedLineage

from .observation import ModelVersion
from .version_facts import Part

COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "mlflow.source.git.dirty"
BRANCH_TAG = "mlflow.source.git.branch"
REPOSITORY_TAG = "mlflow.source.git.repoURL"
FEATURES_TAG = "features"
_TEXT = 256
_DATASETS = 32


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set by MLflow's digest of its content; source_type: local, s3, delta_table, ..."""

    name: str
    digest: str
    source_type: str = ""

    @property
    def shown(self) -> str:
        """name@digest."""
        return f"{self.name}@{self.digest}" if self.digest else self.name


@dataclass(frozen=True, slots=True)
class Lineage:
    """The origin of one version.

    read: False where the run has not been read, so that nothing below `source` but metrics' data sets is known.
    clean_tree: whether all the code was committed, None where that is not known. evaluation: data sets of evaluation
    inputs, and those that metrics were logged for and that are no training data.
    """

    model: str
    version: str
    source: str
    read: bool
    run_id: str | None
    run_deleted: bool
    run_link: str | None
    git_commit: str | None
    git_branch: str | None
    git_repository: str | None
    clean_tree: bool | None
    features: str | None
    training: tuple[Dataset, ...]
    evaluation: tuple[Dataset, ...]


def lineage_of(version: ModelVersion) -> Lineage:
    """What the registry knows of the version's origin. Tags of the version stand above those of its run."""
    inputs = version.run.inputs if version.run else ()
    training = tuple(Dataset(i.name, i.digest, i.source_type) for i in inputs if i.context == "training")
    trained_on = {item.digest for item in training}
    evaluation = {
        (i.name, i.digest): Dataset(i.name, i.digest, i.source_type) for i in inputs if i.context == "evaluation"
    }
    for metric in version.metrics:
        if metric.dataset and metric.digest and metric.digest not in trained_on:
            evaluation.setdefault((metric.dataset, metric.digest), Dataset(metric.dataset, metric.digest))
    return Lineage(
        model=version.name,
        version=version.version,
        source=clip(version.source, 2048),
        read=version.run_id is None or version.run is not None,
        run_id=version.run_id,
        run_deleted=version.run is not None and version.run.deleted,
        run_link=_text(version.run_link),
        git_commit=tag(version, COMMIT_TAG),
        git_branch=tag(version, BRANCH_TAG),
        git_repository=tag(version, REPOSITORY_TAG),
        clean_tree={"false": True, "true": False}.get((tag(version, DIRTY_TAG) or "").lower()),
        features=tag(version, FEATURES_TAG),
        training=_bounded(training),
        evaluation=_bounded(tuple(evaluation.values())),
    )


def recorded(lineage: Lineage) -> RecordedLineage:
    """The lineage as status and records keep it: of several data sets the first, and how many more there are."""
    return RecordedLineage(
        run=lineage.run_id[:128] if lineage.run_id else None,
        dataset=shown(lineage.training),
        evaluated_on=shown(lineage.evaluation),
        git_commit=lineage.git_commit[:128] if lineage.git_commit else None,
        clean_tree=lineage.clean_tree,
        features=lineage.features,
    )


def shown(datasets: tuple[Dataset, ...]) -> str | None:
    """The first, and how many more there are; None where there is none."""
    more = f" and {len(datasets) - 1} more" if len(datasets) > 1 else ""
    return clip(datasets[0].shown, 100) + more if datasets else None


def tag(version: ModelVersion, name: str, *, whole: bool = False) -> str | None:
    """A tag of the version, else of its LoggedModel, else of its run; None where it is absent or empty.

    Clipped to what a record keeps, unless the whole is asked for.
    """
    run = version.run.tags if version.run else {}
    for tags in (version.own_tags, version.model_tags, run):
        if value := tags.get(name, "").strip():
            return value if whole else _text(value)
    return None


def was_read(version: ModelVersion) -> bool:
    """Whether the run was asked for: else its tags and data sets are not known, rather than absent."""
    return Part.RUN in version.parts or version.run is not None


def _text(value: str | None) -> str | None:
    return clip(value, _TEXT) if value else None


def _bounded(datasets: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    return tuple(
        Dataset(clip(item.name, _TEXT), clip(item.digest, 64), clip(item.source_type, 64))
        for item in datasets[:_DATASETS]
    )
