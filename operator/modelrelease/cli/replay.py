"""`replay`: judge the stored evidence of a release or record again, and explain the verdict, without a cluster.

Exit codes: 0 when every verdict is the recorded one, 1 when one differs, 2 when it cannot be judged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from modelrelease.api.status import CheckStatus
from modelrelease.core import checks
from modelrelease.core.checks import share
from modelrelease.core.revision import Revision, desired
from modelrelease.simulation.advice import margin_words
from modelrelease.simulation.replay import NEEDED, Bet, Explained, Replay, replay

from .documents import Documents, RecordDocument, ReleaseDocument, read
from .screen import bad, bold, doubtful, fold, good

_PLENTY = 1_000_000
_COLOURS = {"Pass": good, "Fail": bad}


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a document says of one rollout."""

    name: str
    revision: str
    rules: str
    version: str
    evidence: str | None
    checks: tuple[CheckStatus, ...]
    has_stable: bool


@click.command()
@click.option(
    "-f",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    help="ModelRelease or ReleaseRecord as kubectl get -o yaml gives it, and the ControllerRevision that judges it.",
)
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="Default text.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], output: str) -> None:
    """Judge stored evidence again, and explain the verdict.

    \b
      kubectl get mr churn -o yaml > churn.yaml
      kubectl get controllerrevision churn-REVISION-RULES -o yaml > rules.yaml
      kubectl modelrelease replay -f churn.yaml -f rules.yaml

    The ControllerRevision may be left out where the spec still asks for the
    same revision.
    """
    documents = read(files)
    stored = _stored(documents)
    revision = _revision(documents, stored)
    evidence = checks.decode(stored.evidence, revision)
    if evidence is None:
        raise click.ClickException(
            f"the evidence of {stored.name} belongs to another revision or to another version of the operator"
        )
    seen = replay(revision, evidence, stored.checks, has_stable=stored.has_stable)
    if output == "json":
        click.echo(json.dumps(_as_json(stored, seen), indent=2))
    else:
        click.echo(_text(stored, seen))
    ctx.exit(1 if seen.differs else 0)


def _stored(documents: Documents) -> _Stored:
    record = documents.record()
    stored = _of_record(record) if record is not None else _of_release(documents.release())
    if stored.evidence is None:
        raise click.ClickException(
            f"{stored.name} holds no evidence: it is kept while a candidate is compared, and in the ReleaseRecord"
        )
    return stored


def _of_record(record: RecordDocument) -> _Stored:
    spec = record.spec
    return _Stored(
        name=record.name,
        revision=spec.revision,
        rules=spec.rules,
        version=spec.model.version,
        evidence=spec.evidence,
        checks=spec.checks,
        has_stable=spec.champion is not None,
    )


def _of_release(release: ReleaseDocument) -> _Stored:
    status = release.status
    if status is None or status.candidate is None:
        raise click.ClickException(f"{release.name} has no candidate in its status: nothing is being compared")
    candidate = status.candidate
    return _Stored(
        name=release.name,
        revision=candidate.revision,
        rules=candidate.rules,
        version=candidate.version,
        evidence=status.evidence,
        checks=status.checks,
        has_stable=status.stable is not None,
    )


def _revision(documents: Documents, stored: _Stored) -> Revision:
    """The revision that the evidence was gathered under: as given, or as the spec asks for it."""
    key = f"{stored.revision}-{stored.rules}"
    found = documents.revisions.get(key)
    if found is not None:
        return found
    for release in documents.releases:
        asked = desired(release.name, release.spec, documents.policy_of(release), stored.version)
        if asked.key == key:
            return asked
    name = documents.releases[0].name if documents.releases else "RELEASE"
    raise click.ClickException(
        f"the rules that judge it are not given: kubectl get controllerrevision {name}-{key} -o yaml, with another -f"
    )


def _text(stored: _Stored, seen: Replay) -> str:
    head = bold(f"{stored.name}: v{stored.version}, revision {stored.revision}")
    verdict = f"the mean of all checks is {_figure(seen.combined)}, a rollback needs {NEEDED:g}"
    if seen.failed is not None:
        verdict = f"{bad('rollback')}: {seen.failed} was to blame when the evidence sufficed; now {verdict}"
    else:
        verdict = f"no rollback: {verdict}"
    parts = [head, fold(verdict, indent="  ")]
    for item in seen.checks:
        parts += ["", *_lines(item)]
    for message, found, recorded in seen.others:
        parts += ["", f"{bold(message)}  {_verdict(found, recorded)}"]
    parts += ["", _comparison(seen)]
    return "\n".join(parts)


def _lines(item: Explained) -> list[str]:
    lines = [f"{bold(item.check)}  {_verdict(item.verdict, item.recorded)}"]
    lines.append(f"  canary   {_arm(item.canary.total, item.canary.bad)}")
    if item.stable is not None:
        lines.append(f"  stable   {_arm(item.stable.total, item.stable.bad)}")
    limit = f"  ({margin_words(item.margin.relative, item.margin.absolute)})" if item.stable is not None else ""
    lines.append(f"  allowed  {share(item.allowed)}{limit}")
    limit = f" of {_figure(item.needed)}" if item.needed > 1 else ""  # else the others alone suffice
    lines.append(f"  harm     wealth {_figure(item.wealth)}{limit}{_carried(item.wealth, item.harm_bets)}")
    lines.append(f"  safety   wealth {_figure(item.safe)} of {NEEDED:g}{_carried(item.safe, item.safe_bets)}")
    lines += [fold(f"otherwise  {turn}", indent="  ") for turn in item.turns]
    return lines


def _verdict(found: str, recorded: str | None) -> str:
    shown = _COLOURS.get(found, doubtful)(found)
    return shown if recorded in (None, found) else f"{shown}, recorded as {recorded}"


def _arm(total: float, bad_ones: float) -> str:
    rate = share(bad_ones / total) if total > 0 else "-"
    return f"{rate}  ({bad_ones:,.0f} of {total:,.0f})"


def _carried(wealth: float, bets: Sequence[Bet]) -> str:
    """Which bets a wealth comes from, where it has grown at all."""
    if not bets or wealth <= 1:
        return ""
    each = ", ".join(f"{bet.times:g}x {bet.part:.0%}" for bet in bets[:3])
    return f"; carried by the bets on {each}"


def _figure(value: float) -> str:
    if value >= _PLENTY:
        return f"over {_PLENTY:,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value >= 0.01 else "0"


def _comparison(seen: Replay) -> str:
    if seen.differs:
        names = [item.check for item in seen.checks if item.differs]
        return bad(f"DIFFERS from what is recorded: {', '.join(names) or 'a gauge'}")
    return good("Every verdict is as it is recorded.")


def _as_json(stored: _Stored, seen: Replay) -> dict[str, Any]:
    return {
        "release": stored.name,
        "revision": stored.revision,
        "rules": stored.rules,
        "failed": seen.failed,
        "combinedWealth": seen.combined,
        "neededWealth": NEEDED,
        "differs": seen.differs,
        "checks": [
            {
                "name": item.check,
                "verdict": item.verdict,
                "recorded": item.recorded,
                "message": item.message,
                "canary": {"total": item.canary.total, "bad": item.canary.bad},
                "stable": {"total": item.stable.total, "bad": item.stable.bad} if item.stable is not None else None,
                "allowed": item.allowed,
                "harmWealth": item.wealth,
                "harmNeeded": item.needed,
                "safeWealth": item.safe,
                "harmBets": {f"{bet.times:g}": round(bet.part, 4) for bet in item.harm_bets},
                "safeBets": {f"{bet.times:g}": round(bet.part, 4) for bet in item.safe_bets},
                "turns": list(item.turns),
            }
            for item in seen.checks
        ],
    }
