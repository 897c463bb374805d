"""`list`: the releases of a namespace or of all, those first that need somebody. Exit code 0; 2 if not to be read."""

from __future__ import annotations

import click

from .cluster import RELEASES, Cluster, in_cluster


@click.command()
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of all namespaces.")
@click.option("-o", "output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Default text.")
@in_cluster
def command(cluster: Cluster, everywhere: bool, output: str) -> None:
    """List releases; those that need somebody come first."""
    begun = cluster.start_items(cluster.path(RELEASES, everywhere=everywhere))

    from .output import dumped, explained
    from .reading import release_of
    from .terminal import canvas, now
    from .views.listing import releases

    found = [release_of(item) for item in begun.all()]
    if output != "text":
        click.echo(dumped([explained(item) for item in found], output))
    elif found:
        click.echo(releases(found, now(), canvas(), everywhere=everywhere))
    else:
        where = "in any namespace" if everywhere else f"in namespace {cluster.namespace}"
        click.echo(f"No ModelRelease {where}.")
