"""`explain`: what would move a release, one open condition at a time. Exit codes as `status`."""

from __future__ import annotations

import click

from .begun import begin
from .cluster import Cluster, in_cluster


@click.command()
@click.argument("name")
@click.option("-o", "output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Default text.")
@in_cluster
@click.pass_context
def command(ctx: click.Context, cluster: Cluster, name: str, output: str) -> None:
    """Show what would move a release: what is seen, needed, likely, and what a person could do."""
    begun = begin(cluster, name)

    from modelrelease.core.explain import explain
    from modelrelease.core.openings import openings

    from .output import dumped, explained
    from .reading import whole
    from .terminal import canvas, now
    from .views import explained as view

    _, release = whole(cluster, begun)
    at = now()
    if output == "text":
        click.echo(view.render(release, at, canvas()))
    else:
        found = [
            {"what": item.what, "seen": item.seen, "needed": item.needed, "likely": item.likely, "could": item.could}
            for item in openings(release.status, release.known, at)
        ]
        click.echo(dumped({**explained(release), "openings": found}, output))
    ctx.exit(1 if explain(release.status, release.known, at).ill else 0)
