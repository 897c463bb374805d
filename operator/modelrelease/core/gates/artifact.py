"""The gate artifact: the model's files are still those that the release began with.

The digest is of the MLmodel file and of the sorted list of files with their sizes; or a tag of the version says it.
`status.candidate.artifact` pins it, by where it is from, when gates are read first; every later reading compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from modelrelease.api.gates import Gate
from modelrelease.api.reasons import Reason
from modelrelease.api.registry_gates import ArtifactGate
from modelrelease.api.status import GateStatus

from ..observation import Lookup, Missing, ModelVersion, Unavailable
from ..version_facts import Part, Unlisted
from .context import Context
from .findings import Findings

MANIFEST = "MLmodel and file list"
_SHOWN = 19  # sha256: and twelve digits
_DIGEST_MAX = 128
PINNED_MAX = 4


def judge(
    name: str, gate: ArtifactGate, candidate: ModelVersion, _: ModelVersion | None, context: Context
) -> GateStatus:
    """Pass where the digest is the pinned one, or where none is pinned yet: this is the one to be pinned then."""
    digest, found = digest_of(gate, candidate), Findings()
    pinned = context.pinned.get(_from(gate))
    if not isinstance(digest, str):
        (found.away if isinstance(digest, Unavailable) else found.lacking).append(digest.message)
    elif pinned is None or digest == pinned:
        kept = "pinned" if pinned is None else "as pinned"
        found.seen.append(f"{digest[:_SHOWN]} {kept}{_described(gate, candidate)}")
    else:
        words = f"the files have changed since the release began: {digest[:_SHOWN]} now, {pinned[:_SHOWN]} then"
        found.failed.append(f"{words}; register what is to be served as a new version")
    return found.conclude(name, source=_from(gate))


def pin(gates: Iterable[Gate], candidate: Lookup | None, pinned: Mapping[str, str]) -> dict[str, str]:
    """What is pinned, and the digests that these gates ask for and that can be told, by where they are from."""
    found = dict(pinned)
    if not isinstance(candidate, ModelVersion):
        return found
    for rules in (gate.artifact for gate in gates if gate.artifact is not None):
        digest = digest_of(rules, candidate)
        if isinstance(digest, str) and len(found) < PINNED_MAX:
            found.setdefault(_from(rules), digest)
    return found


def digest_of(gate: ArtifactGate, version: ModelVersion) -> str | Missing | Unavailable:
    """The digest, or why there is none: Missing is for people to mend, Unavailable passes by itself."""
    if gate.tag is not None:
        value = version.own_tags.get(gate.tag, "").strip()
        return value[:_DIGEST_MAX] or _missing(f"version {version.version} has no tag {gate.tag}; log the digest there")
    for part in (version.files, version.model_file):
        if isinstance(part, Missing | Unavailable):
            return part
        if isinstance(part, Unlisted):
            return _missing(f"{part.why}; log a digest as a tag of the version and name it in artifact.tag")
    if version.files is None or version.model_file is None or not {Part.FILES, Part.MODEL_FILE} <= version.parts:
        return Unavailable(Reason.REGISTRY_PENDING, "the list of files has not been read from the registry yet")
    assert not isinstance(version.files, Missing | Unavailable | Unlisted), "told above"
    assert not isinstance(version.model_file, Missing | Unavailable), "told above"
    listed = [[entry.path, entry.size] for entry in version.files]
    manifest = json.dumps({"MLmodel": version.model_file.digest, "files": sorted(listed)}, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"


def _from(gate: ArtifactGate) -> str:
    return f"tag {gate.tag}" if gate.tag else MANIFEST


def _described(gate: ArtifactGate, version: ModelVersion) -> str:
    if gate.tag is not None or not isinstance(version.files, tuple):
        return f" by tag {gate.tag}"
    total = sum(entry.size or 0 for entry in version.files)
    return f": {len(version.files)} files, {total} bytes"


def _missing(words: str) -> Missing:
    return Missing(Reason.GATE_FAILED, words)
