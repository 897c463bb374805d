"""Reads what a person gives with -f: YAML or JSON, one or several documents a file, `-` for standard input.

Documents become the models of `api`; one that does not fit is an error that names the file, the field and the reason.
Nothing is asked of a cluster here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml
from pydantic import BaseModel, ValidationError

from modelrelease.api.base import API_VERSION, GROUP
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.record import ReleaseRecordSpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.core.revision import Revision, from_data

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ReleaseDocument:
    """A ModelRelease; status is None where the document has none."""

    name: str
    namespace: str
    spec: ModelReleaseSpec
    status: ModelReleaseStatus | None


@dataclass(frozen=True, slots=True)
class RecordDocument:
    """A ReleaseRecord."""

    name: str
    spec: ReleaseRecordSpec


@dataclass(frozen=True, slots=True)
class Documents:
    """All that was given, by kind. policies by name, revisions by key."""

    releases: tuple[ReleaseDocument, ...] = ()
    policies: Mapping[str, ReleasePolicySpec] = field(default_factory=dict)
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    records: tuple[RecordDocument, ...] = ()
    ignored: tuple[str, ...] = ()

    def record(self) -> RecordDocument | None:
        """The only ReleaseRecord, None where none was given; several are the user's error."""
        if len(self.records) > 1:
            raise click.ClickException(f"-f holds {len(self.records)} ReleaseRecords, give one")
        return self.records[0] if self.records else None

    def release(self) -> ReleaseDocument:
        """The only ModelRelease; none or several are the user's error."""
        if len(self.releases) == 1:
            return self.releases[0]
        seen = f"; found {', '.join(self.ignored)}" if self.ignored else ""
        names = ", ".join(item.name for item in self.releases)
        raise click.ClickException(
            f"-f holds {len(self.releases)} ModelReleases ({names}), give one"
            if self.releases
            else f"-f holds no ModelRelease{seen}"
        )

    def policy_of(self, release: ReleaseDocument) -> ReleasePolicySpec | None:
        """The policy that the release names, None where it names none or it was not given."""
        ref = release.spec.policy_ref
        return self.policies.get(ref.name) if ref else None


def read(paths: Iterable[str]) -> Documents:
    """Read the files. Raises click.ClickException with one line that says what is wrong where."""
    releases: list[ReleaseDocument] = []
    policies: dict[str, ReleasePolicySpec] = {}
    revisions: dict[str, Revision] = {}
    records: list[RecordDocument] = []
    ignored: list[str] = []
    for path, document in _documents(paths):
        kind, group = document.get("kind"), str(document.get("apiVersion", "")).partition("/")[0]
        where = f"{path}: {kind}"
        metadata = document.get("metadata") or {}
        match kind, group:
            case "ModelRelease", _ if group == GROUP:
                status = document.get("status")
                releases.append(
                    ReleaseDocument(
                        name=str(metadata.get("name") or "release"),
                        namespace=str(metadata.get("namespace") or "default"),
                        spec=_model(ModelReleaseSpec, document.get("spec") or {}, f"{where}: spec"),
                        status=_model(ModelReleaseStatus, status, f"{where}: status") if status else None,
                    )
                )
            case "ReleasePolicy", _ if group == GROUP:
                name = str(metadata.get("name"))
                policies[name] = _model(ReleasePolicySpec, document.get("spec") or {}, f"{where}: spec")
            case "ReleaseRecord", _ if group == GROUP:
                name = str(metadata.get("name"))
                spec = _model(ReleaseRecordSpec, document.get("spec") or {}, f"{where}: spec")
                records.append(RecordDocument(name, spec))
            case "ControllerRevision", _:
                try:
                    revision = from_data(document["data"])
                except (KeyError, TypeError, ValueError) as error:
                    raise click.ClickException(f"{where}: is none that this version reads: {error}") from error
                revisions[revision.key] = revision
            case _:
                ignored.append(str(kind))
    return Documents(tuple(releases), policies, revisions, tuple(records), tuple(ignored))


def write_release(
    path: str, name: str, namespace: str, spec: ModelReleaseSpec, status: ModelReleaseStatus | None
) -> None:
    """Write a ModelRelease as `kubectl get -o yaml` gives it."""
    document = {
        "apiVersion": API_VERSION,
        "kind": "ModelRelease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    if status is not None:
        document["status"] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        Path(path).write_text(yaml.safe_dump(document, sort_keys=False, width=118), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error


def _documents(paths: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in paths:
        try:
            text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
            found = list(yaml.load_all(text, Loader=_LOADER))
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise click.ClickException(f"{path}: not YAML: {error}") from error
        for document in found:
            if isinstance(document, dict) and str(document.get("kind", "")).endswith("List") and "items" in document:
                yield from ((path, item) for item in document["items"] or ())
            elif isinstance(document, dict):
                yield path, document
            elif document is not None:
                raise click.ClickException(f"{path}: holds no Kubernetes object")


def _model(model: type[_Model], data: Any, where: str) -> _Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        said = problem["msg"].removeprefix("Value error, ")
        raise click.ClickException(f"{where}{path}: {said}{more}") from error


def line_of(node: yaml.Node | None, path: Sequence[str | int]) -> int:
    """The line of a field, from 0: of its nearest parent that stands there, if it does not."""
    line = node.start_mark.line if node is not None else 0
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == part]
            if not pairs:
                break
            line, node = pairs[0][0].start_mark.line, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line
