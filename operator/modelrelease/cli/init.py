"""`init`: write a ModelRelease from a Deployment that runs, with a comment on everything that is a guess.

Here: reading the three kinds and writing YAML with comments; what becomes of what stands in `core.adopt`. Changes
nothing in the cluster. Needs: get deployments, list services, list httproutes.
"""

from __future__ import annotations

import click
import yaml

from modelrelease.core.adopt import Adoption, Asked, NotAdoptable, adopt

from .cluster import Cluster, ClusterError, Object, in_cluster
from .documents import line_of

_APPS, _CORE, _GATEWAY = "/apis/apps/v1", "/api/v1", "/apis/gateway.networking.k8s.io/v1"
_WIDTH = 118


@click.command()
@in_cluster
@click.argument("deployment", metavar="deployment/NAME")
@click.option("--name", help="Of the release. Default: that of the Deployment.")
@click.option("--model", help="Registered model in MLflow.")
@click.option("--version", help="Its version that runs now.")
@click.option("--gateway", metavar="[NAMESPACE/]NAME", help="Default: that of the HTTPRoute that leads to it.")
@click.option("--http-route", metavar="NAME", help="Keep this HTTPRoute, and let the release write its weights.")
def command(
    cluster: Cluster,
    deployment: str,
    name: str | None,
    model: str | None,
    version: str | None,
    gateway: str | None,
    http_route: str | None,
) -> None:
    """Write a ModelRelease from a running Deployment.

    \b
      kubectl modelrelease init deployment/churn --model churn --version 7 \\
        > release.yaml
    """
    kind, found, bare = deployment.partition("/")
    if found and kind not in ("deployment", "deployments", "deploy", "deployment.apps", "deployments.apps"):
        raise click.UsageError(f"{deployment}: only a Deployment can be read, write deployment/{bare}")
    if gateway is not None and http_route is not None:
        raise click.UsageError("--gateway and --http-route exclude each other")
    namespace, _, parent = gateway.rpartition("/") if gateway else ("", "", "")
    asked = Asked(name, model, version, (namespace or None, parent) if parent else None, http_route)
    reads = [
        cluster.start(cluster.path("deployments", bare if found else deployment, root=_APPS)),
        cluster.start(cluster.path("services", root=_CORE)),
        cluster.start(cluster.path("httproutes", root=_GATEWAY)),
    ]
    live, services = reads[0].value(), reads[1].value()["items"]
    try:
        routes: list[Object] = reads[2].value()["items"]
    except ClusterError as error:
        if error.reason != "NotFound":
            raise
        routes = []  # a cluster without the Gateway API's CRDs: the release will need them
    try:
        click.echo(text(adopt(live, services, routes, asked)), nl=False)
    except NotAdoptable as error:
        raise click.ClickException(str(error)) from error


def text(made: Adoption) -> str:
    """The release as YAML, the remarks as comments above what they are about, the steps at its head."""
    body = yaml.safe_dump(made.document, sort_keys=False, width=_WIDTH, default_flow_style=False)
    lines = body.splitlines()
    node = yaml.compose(body, Loader=yaml.SafeLoader)
    comments: dict[int, list[str]] = {}
    for path, words in made.remarks:
        comments.setdefault(line_of(node, path), []).append(words)
    out = ["# Written by kubectl modelrelease init. Look at every comment, then:", "#"]
    out += [f"#   {number}. {step}" for number, step in enumerate(made.steps, 1)]
    for number, line in enumerate(lines):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        out += [f"{indent}# {words}" for words in comments.get(number, ())]
        out.append(line)
    return "\n".join(out) + "\n"
