"""The gate lineage: data sets, code, run and features are on record, and evaluation data are not training data."""

from __future__ import annotations

import re

from modelrelease.api.registry_gates import LineageGate
from modelrelease.api.status import GateStatus

from .. import lineage as origin
from ..lineage import Dataset, Lineage
from ..observation import MetricValue, ModelVersion
from .context import Context
from .findings import Findings, unread

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_SHORT = 12


def judge(
    name: str, gate: LineageGate, candidate: ModelVersion, _: ModelVersion | None, context: Context
) -> GateStatus:
    """Every required fact; a missing one is InsufficientData with what to log."""
    if not origin.was_read(candidate):
        return unread(name, "the run")
    known, found = origin.lineage_of(candidate), Findings()
    for fact in gate.require:
        match fact:
            case "run":
                _run(known, found)
            case "gitCommit":
                _commit(known, found)
            case "cleanTree":
                _clean_tree(candidate, known, found)
            case "dataset":
                _datasets(candidate, known, context, found)
            case "features":
                if known.features:
                    found.seen.append(f"features {known.features}")
                else:
                    found.lacking.append("no feature set is logged; set the tag features on the run or the version")
    shown = known.training[0].shown if known.training else None
    return found.conclude(name, dataset=shown, source=f"run {known.run_id}" if known.run_id else None)


def _run(known: Lineage, found: Findings) -> None:
    if known.run_id is None:
        found.lacking.append(f"version {known.version} names no run; register it with run_id")
    elif known.run_deleted:
        found.lacking.append(f"run {known.run_id} is deleted; restore it, or register a version of a run that is kept")
    else:
        found.seen.append(f"run {known.run_id[:_SHORT]}")


def _commit(known: Lineage, found: Findings) -> None:
    if known.git_commit is None:
        found.lacking.append(f"no git commit is logged; train from a git checkout or set the tag {origin.COMMIT_TAG}")
    elif not _COMMIT.fullmatch(known.git_commit.lower()):
        found.lacking.append(f"tag {origin.COMMIT_TAG} is {known.git_commit!r}, no git commit")
    else:
        found.seen.append(f"commit {known.git_commit[:_SHORT]}")


def _clean_tree(candidate: ModelVersion, known: Lineage, found: Findings) -> None:
    if known.clean_tree is True:
        found.seen.append("clean tree")
    elif known.clean_tree is False:
        found.failed.append(f"trained from a tree with uncommitted changes ({origin.DIRTY_TAG}=true)")
    elif (value := origin.tag(candidate, origin.DIRTY_TAG)) is not None:
        found.lacking.append(f"tag {origin.DIRTY_TAG} is {value!r}, neither true nor false")
    else:
        found.lacking.append(f"not known whether all code was committed; set the tag {origin.DIRTY_TAG} to false")


def _datasets(candidate: ModelVersion, known: Lineage, context: Context, found: Findings) -> None:
    if not known.training:
        other = [item.name for item in candidate.run.inputs if not item.context] if candidate.run else []
        seen = f" (of {', '.join(other[:3])} the context is not told)" if other else ""
        found.lacking.append(f"no training data set is logged{seen}; call mlflow.log_input(data, context='training')")
        return
    if unnamed := [item.name for item in (*known.training, *known.evaluation) if not item.digest]:
        found.lacking.append(f"data set {unnamed[0]} has no digest")
        return
    trained_on = {item.digest: item for item in known.training}
    same = [item for item in (*known.evaluation, *_judged(candidate, context)) if item.digest in trained_on]
    if same:
        first = same[0]
        twin = trained_on[first.digest].name
        also = f" (as {twin})" if twin != first.name else ""
        found.failed.append(f"evaluated on its own training data: {first.shown} was trained on{also}")
    elif not known.evaluation:
        found.lacking.append("no evaluation data set is logged; call mlflow.log_input(data, context='evaluation')")
    else:
        found.seen.append(f"trained on {origin.shown(known.training)}, evaluated on {origin.shown(known.evaluation)}")


def _judged(candidate: ModelVersion, context: Context) -> list[Dataset]:
    """The data sets of the metrics that gates of this release hold the candidate to.

    MLflow keeps one use of a data set in a run, the first: evaluation on training data may show here only.
    """
    gates = context.revision.gates if context.revision else ()
    rules = [gate.rules for gate in gates if hasattr(gate.rules, "dataset")]
    return [
        Dataset(value.dataset, value.digest)
        for value in candidate.metrics
        if value.dataset and value.digest and any(_judges(gate, value) for gate in rules)
    ]


def _judges(rules: object, value: MetricValue) -> bool:
    asked: str | None = getattr(rules, "dataset", None)
    metric = getattr(rules, "name", None) or getattr(rules, "metric", None)
    named = isinstance(metric, str) and (value.key == metric or value.key.endswith(f"/{metric}"))
    return named and asked in (None, value.dataset)
