"""`status`: is anyone hurt, what do I have to do, what happens next, and why.

Exit codes: 0 nobody is hurt and nobody has to do anything, 1 somebody is or has, 2 it cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .begun import begin
from .cluster import Cluster, Object, in_cluster

if TYPE_CHECKING:
    from .views.values import Release


@click.command()
@click.argument("name")
@click.option("-w", "--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@click.option("-o", "output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Default text.")
@in_cluster
@click.pass_context
def command(ctx: click.Context, cluster: Cluster, name: str, watch: bool, output: str) -> None:
    """Show a release: is anyone hurt, what has to be done, what comes next, why.

    \b
    Exit code:  0  nobody is hurt, and nobody has to do anything
                1  somebody is hurt, or has something to do
                2  it cannot be read
    """
    if watch and output != "text":
        raise click.UsageError("-w shows text; for JSON, use kubectl get modelrelease NAME -o json -w")
    begun = begin(cluster, name)  # kubectl starts while the modules below are imported

    from .reading import whole
    from .terminal import canvas, now
    from .terminal import watch as show_again
    from .views import status as view

    first = [begun]

    def draw() -> tuple[str, int]:
        body, release = whole(cluster, first.pop() if first else begin(cluster, name))
        at = now()
        if output != "text":
            return _data(body, release, output)
        return view.render(release, at, canvas()), _code(release)

    if watch:
        ctx.exit(show_again(draw))
    text, code = draw()
    click.echo(text)
    ctx.exit(code)


def _code(release: Release) -> int:
    from modelrelease.core.explain import explain

    from .terminal import now

    return 1 if explain(release.status, release.known, now()).ill else 0


def _data(body: Object, release: Release, output: str) -> tuple[str, int]:
    """The same for programs: what the screen says, and the status as it stands in the cluster."""
    from .output import dumped, explained

    found: dict[str, Any] = explained(release)
    found["pods"] = [
        {
            "name": pod.name,
            "revision": pod.revision,
            "ready": pod.ready,
            "state": pod.state,
            "node": pod.node,
            "hardware": pod.hardware,
            "restarts": pod.restarts,
            "rate": pod.rate,
        }
        for pod in release.pods
    ]
    found["changes"] = [{"what": item.what, "before": item.before, "after": item.after} for item in release.changes]
    found["notShown"] = list(release.unseen)
    found["status"] = body.get("status") or {}
    return dumped(found, output), _code(release)
