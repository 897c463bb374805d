"""Reads that are begun at once, before anything is imported that makes sense of them: kubectl starts meanwhile.

Only the release itself must be readable; of the rest it is told what is missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from .cluster import APPROVALS, GROUP_ROOT, RELEASES, Cluster, Reading

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for plugins that nobody has takes 40 ms


@dataclass(frozen=True, slots=True)
class Begun:
    """What is being read of one release. Without details only the release itself."""

    release: Reading
    pods: Reading | None = None
    revisions: Reading | None = None
    approvals: Reading | None = None


def begin(cluster: Cluster, name: str, *, details: bool = True) -> Begun:
    """Begin to read a release, and all else that its screen shows."""
    release = cluster.start(cluster.path(RELEASES, name))
    if not details:
        return Begun(release)
    return Begun(
        release,
        cluster.start(cluster.of_release("pods", name, root="/api/v1")),
        cluster.start(cluster.of_release("controllerrevisions", name, root="/apis/apps/v1")),
        cluster.start(cluster.path(APPROVALS, root=GROUP_ROOT)),
    )
