"""`history`: how the rollouts of a release ended, newest first. Exit code 0, or 2 if it cannot be read."""

from __future__ import annotations

import click

from .begun import begin
from .cluster import RECORDS, Cluster, in_cluster


@click.command()
@click.argument("name")
@in_cluster
def command(cluster: Cluster, name: str) -> None:
    """Show how the rollouts of a release ended, newest first.

    Number and time are those of its ReleaseRecords, which `record` shows.
    """
    begun = begin(cluster, name, details=False)
    listed = cluster.start_items(cluster.of_release(RECORDS, name))

    from .reading import record_of, release_of
    from .terminal import canvas, now
    from .views.listing import history

    body = begun.release.value()
    uid = body["metadata"]["uid"]
    records = [record_of(item) for item in listed.all() if item["spec"].get("uid") == uid]
    release = release_of(body)
    if not records and not release.status.history:
        click.echo(f"No rollout of {release.namespace}/{name} has ended yet.")
        return
    click.echo(history(release, records, now(), canvas()))
