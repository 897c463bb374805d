"""What is read of one model version: the run, the LoggedModel, the MLmodel file and the list of files.

Here: which requests each part costs and how their answers become a `ModelVersion`. Not here: how a request is sent
(clients.mlflow_rest), who asks with which credentials (clients.registry) and what the values mean (core.gates).

The rules: only the parts that were asked for are read; of a model's files only MLmodel is ever fetched, bounded in
size, the rest is listed. A part that cannot be read is a value of its own, so that gates that need others go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelrelease.api.reasons import Reason
from modelrelease.core.observation import Missing, ModelVersion, Unavailable
from modelrelease.core.version_facts import DatasetInput, FileEntry, ModelFile, Part, RunFacts, Unlisted

from .failures import TooLargeError
from .model_file import parse_model_file
from .registry_metrics import evaluation, latest_points

MODEL_FILE = "MLmodel"
MODEL_FILE_LIMIT = 512 * 1024
"""Bytes of an MLmodel file that are read. One with ten thousand columns fits; what is larger is none."""
LISTING_LIMIT = 1024 * 1024
FOLDERS_LIMIT = 32
FILES_LIMIT = 2000
_INPUTS_LIMIT = 100

Download = Callable[[str, Mapping[str, str], int], bytes]
"""GET a path with parameters; at most so many bytes, TooLargeError beyond them."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a version is read from.

    runs: MLflow's store of runs. download: as above. errors: what both raise. found: calls, and gives None for what
    does not exist. failure: the value of an error. code: MLflow's word for an error. where: the registry, for messages.
    """

    runs: Any
    download: Download
    errors: tuple[type[Exception], ...]
    found: Callable[[Callable[[], Any]], Any]
    failure: Callable[[Exception], Unavailable]
    code: Callable[[Exception], str]
    where: str


@dataclass(frozen=True, slots=True)
class Served:
    """A version as the pods that serve it know it; the registry's own entry is not asked."""

    name: str
    version: str
    source: str
    status: str = "READY"
    run_id: str = ""
    run_link: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def describe(
    source: Source, found: Any, logged_as: str | None, parts: frozenset[Part], now: Callable[[], datetime]
) -> ModelVersion:
    """The version with its metrics and these parts. found: MLflow's entity, or Served; logged_as: its LoggedModel's id.

    Raises one of `source.errors` where what every gate needs cannot be read.
    """
    read_run = bool(found.run_id) and (Part.RUN in parts or logged_as is None)
    run = source.found(lambda: source.runs.get_run(found.run_id)) if read_run else None
    if logged_as is not None:
        logged = source.found(lambda: source.runs.get_logged_model(logged_as))
        metrics, metrics_from = evaluation(source.runs, logged, source.found, found.run_id or None, run)
    else:
        logged = None
        metrics, metrics_from = latest_points(run.data._metric_objs) if run else (), "Run"
    model_file = _model_file(source, found, logged_as) if Part.MODEL_FILE in parts else None
    files = _files(source, found, logged_as) if Part.FILES in parts else None
    return ModelVersion(
        name=found.name,
        version=found.version,
        source=found.source,
        status=found.status,
        read_at=now(),
        run_id=found.run_id or None,
        metrics=metrics,
        metrics_from=metrics_from,
        tags={**(run.data.tags if run else {}), **found.tags},
        own_tags=dict(found.tags),
        model_tags={**(logged.params or {}), **(logged.tags or {})} if logged else {},
        run=_run_facts(found.run_id, run) if read_run else None,
        run_link=found.run_link or None,
        model_file=model_file,
        files=files,
        parts=parts,
    )


def _run_facts(run_id: str, run: Any) -> RunFacts:
    if run is None:
        return RunFacts(run_id, deleted=True)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return RunFacts(
        id=run_id,
        deleted=run.info.lifecycle_stage == "deleted",  # the bin: the run is still answered for
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        inputs=tuple(
            DatasetInput(
                item.dataset.name or "-",
                item.dataset.digest or "",
                item.dataset.source_type or "",
                {tag.key: tag.value for tag in item.tags},
            )
            for item in inputs[:_INPUTS_LIMIT]
        ),
    )


def _model_file(source: Source, found: Any, logged_as: str | None) -> ModelFile | Missing | Unavailable:
    if logged_as is not None:
        path = f"/ajax-api/2.0/mlflow/logged-models/{logged_as}/artifacts/files"
        params = {"artifact_file_path": MODEL_FILE}
    else:
        path = "/model-versions/get-artifact"
        params = {"name": found.name, "version": found.version, "path": MODEL_FILE}
    what = f"{MODEL_FILE} of {found.name} version {found.version}"
    try:
        return parse_model_file(source.download(path, params, MODEL_FILE_LIMIT))
    except TooLargeError:
        words = f"{what} is larger than {MODEL_FILE_LIMIT // 1024} KiB and is not read"
        return Unavailable(Reason.REGISTRY_ERROR, words)
    except source.errors as error:
        if source.code(error) == "RESOURCE_DOES_NOT_EXIST":
            return Missing(Reason.VERSION_NOT_FOUND, f"{found.name} version {found.version} has no {MODEL_FILE} file")
        if isinstance(error, ValueError):
            return Unavailable(Reason.REGISTRY_ERROR, f"{what} cannot be read: {error}")
        failure = source.failure(error)
        return Unavailable(failure.reason, f"{what} cannot be read: {failure.message}")


def _files(
    source: Source, found: Any, logged_as: str | None
) -> tuple[FileEntry, ...] | Unlisted | Missing | Unavailable:
    """Every file of the model by path: one request for each folder, none for a file."""
    if logged_as is None:
        return Unlisted(f"the registry lists no files of {_scheme(found.source)} sources")
    path = f"/api/2.0/mlflow/logged-models/{logged_as}/artifacts/directories"
    folders, files, asked = [""], list[FileEntry](), 0
    what = f"the files of {found.name} version {found.version}"
    try:
        while folders:
            folder = folders.pop()
            asked += 1
            if asked > FOLDERS_LIMIT or len(files) > FILES_LIMIT:
                return Unlisted(f"{what} are more than {FILES_LIMIT}, or in more than {FOLDERS_LIMIT} folders")
            for name, is_dir, size in _listing(source, path, folder):
                if is_dir:
                    folders.append(name)
                else:
                    files.append(FileEntry(name, size))
    except TooLargeError:
        return Unlisted(f"the list of {what} is longer than {LISTING_LIMIT // 1024} KiB")
    except source.errors as error:
        if source.code(error) == "RESOURCE_DOES_NOT_EXIST":
            return Missing(Reason.VERSION_NOT_FOUND, f"{what} are gone from the registry")
        failure = source.failure(error)
        return Unavailable(failure.reason, f"{what} cannot be listed: {failure.message}")
    return tuple(sorted(files, key=lambda entry: entry.path))


def _listing(source: Source, path: str, folder: str) -> list[tuple[str, bool, int | None]]:
    """The entries of one folder. A name outside of it would be asked for in turn: such an answer is refused."""
    content = source.download(path, {"artifact_directory_path": folder} if folder else {}, LISTING_LIMIT)
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if document.get("next_page_token"):
        raise TooLargeError
    entries = []
    for item in document.get("files") or []:
        name, size = str(item["path"]), item.get("file_size")
        if not name.startswith(f"{folder}/" if folder else "") or name == folder or ".." in name.split("/"):
            raise ValueError(f"an entry {name!r} of folder {folder!r}")
        entries.append((name, bool(item.get("is_dir")), int(size) if size is not None else None))
    return entries


def _scheme(uri: str) -> str:
    return uri.partition(":")[0]
