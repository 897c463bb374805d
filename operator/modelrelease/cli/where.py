"""`where`: which releases serve, try or keep a model version, over all namespaces. Exit code 0; 2 if not to be read.

Asked of the cluster, not of the registry: of each release's status, and of its stored revisions for the model's name,
which the spec may have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import click

from .cluster import NAME_LABEL, RELEASES, Cluster, ClusterError, in_cluster

if TYPE_CHECKING:
    from .views.listing import Place
    from .views.values import Release


@click.command()
@click.argument("model")
@click.option("-o", "output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Default text.")
@click.option("--here", is_flag=True, help="In one namespace only, where all may not be read.")
@in_cluster
def command(cluster: Cluster, model: str, output: str, here: bool) -> None:
    """Show which releases serve, try or keep MODEL or MODEL/VERSION.

    \b
      kubectl modelrelease where churn
      kubectl modelrelease where churn/7
    """
    listed = cluster.start_items(cluster.path(RELEASES, everywhere=not here))
    path = cluster.path("controllerrevisions", root="/apis/apps/v1", everywhere=not here, labelSelector=NAME_LABEL)
    revisions = cluster.start_items(path)

    from modelrelease.api.base import format_time

    from .output import dumped
    from .reading import release_of
    from .terminal import canvas, now
    from .views.listing import places

    name, _, version = model.rpartition("/") if "/" in model else (model, "", "")
    found = [release_of(item) for item in listed.all()]
    try:
        models = {(item["metadata"]["namespace"], item["metadata"]["name"]): _model(item) for item in revisions.all()}
    except ClusterError:  # the names in the specs tell nearly as much
        models = {}
    seen = [place for item in found for place in places_of(item, name, version, models)]
    if output != "text":
        told = [
            {
                "namespace": place.namespace,
                "release": place.release,
                "version": place.version,
                "role": place.role,
                "weight": place.weight,
                "phase": place.phase,
                "since": format_time(place.since) if place.since else None,
            }
            for place in seen
        ]
        click.echo(dumped(told, output))
    elif seen:
        click.echo(places(seen, now(), canvas()))
    else:
        where = f"namespace {cluster.namespace}" if here else "this cluster"
        click.echo(f"No release of {where} serves, tries or keeps {model}.")


def places_of(release: Release, model: str, version: str, models: Mapping[tuple[str, str], str]) -> list[Place]:
    """Where a version of a model is (any version, if empty). models: by namespace and name of ControllerRevision."""
    from modelrelease.core import told

    from .views.listing import Place

    status, asked = release.status, release.known.asks
    out: list[Place] = []
    step = status.summary.step
    phase = status.phase if step == "-" else f"{status.phase}, {step}"

    def is_of(key: str, number: str) -> bool:
        ran = models.get((release.namespace, f"{release.name}-{key}"), release.model)
        return ran == model and version in ("", number)

    def add(role: str, number: str, weight: int, since: datetime | None, words: str = "") -> None:
        out.append(Place(release.namespace, release.name, number, role, weight, phase, since, words))

    if (stable := status.stable) is not None and is_of(stable.key, stable.version):
        add("serves", stable.version, told.weight(status, stable), stable.promoted_at)
    if (candidate := status.candidate) is not None and is_of(candidate.key, candidate.version):
        add("tried", candidate.version, told.weight(status, candidate), candidate.started_at)
    if (previous := status.previous) is not None and is_of(previous.key, previous.version):
        add("kept", previous.version, 0, previous.replaced_at, "for a return by command rollback")
    known = {place.version for place in out}
    for entry in status.quarantine:
        if is_of(entry.key, entry.version) and entry.version not in known:
            known.add(entry.version)
            add("failed", entry.version, 0, entry.since, entry.message)
    if release.model == model and asked and asked not in known and version in ("", asked):
        add("wanted", asked, 0, status.summary.since, status.summary.why)
    return out


def _model(revision: Mapping[str, Mapping[str, object]]) -> str:
    return str((revision.get("data") or {}).get("model") or "")
