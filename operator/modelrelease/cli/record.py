"""`record`: how one rollout went, from its ReleaseRecord, and whether the chain of records holds.

Exit codes: 0 the chain holds, 1 it does not, 2 it cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from .cluster import RECORDS, Cluster, Object, in_cluster


@click.command()
@click.argument("name")
@click.argument("record", required=False)
@in_cluster
@click.pass_context
def command(ctx: click.Context, cluster: Cluster, name: str, record: str | None) -> None:
    """Show how one rollout of a release went, and check the chain of its records.

    RECORD is a number as `history` shows it, or the name of a ReleaseRecord; the
    newest if it is left out. It outlives its release.

    \b
    Exit code:  0  the chain of records holds
                1  it does not: one was changed, or is missing
                2  it cannot be read
    """
    listed = cluster.start_items(cluster.of_release(RECORDS, name))

    from modelrelease.core.record import chain_problem

    from .reading import record_of
    from .terminal import canvas, now
    from .views import record as view

    items = sorted(listed.all(), key=lambda item: (item["spec"].get("endedAt", ""), _number(item)))
    if not items:
        raise click.ClickException(f"{cluster.namespace}/{name} has no ReleaseRecord: none of its rollouts has ended")
    chosen = _chosen(items, record, name)
    chain = [item for item in items if item["spec"].get("uid") == chosen["spec"].get("uid")]
    chain.sort(key=_number)
    problem = chain_problem([(item["metadata"]["name"], item["spec"]) for item in chain])
    words = f"THE CHAIN IS BROKEN: {problem}." if problem else f"The chain of {_count(len(chain))} holds."
    click.echo(view.render(record_of(chosen), words, now(), canvas()))
    ctx.exit(1 if problem else 0)


def _chosen(items: Sequence[Object], record: str | None, name: str) -> Object:
    if record is None:
        return items[-1]
    number = record.removeprefix("#")
    for item in reversed(items):
        if item["metadata"]["name"] == record or str(item["spec"].get("sequence")) == number:
            return item
    raise click.ClickException(f"no ReleaseRecord {record} of {name}; see kubectl modelrelease history {name}")


def _number(item: Object) -> int:
    return int(item["spec"].get("sequence", 0))


def _count(records: int) -> str:
    return "1 record" if records == 1 else f"{records} records"
