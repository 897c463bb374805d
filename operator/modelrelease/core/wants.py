"""What a release needs read from the outside, or written to the registry, as values for the refreshers.

Built by `core.plan.wants` after every decision, carried out by `engine.refresh` and `engine.sampler`. Nothing waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelrelease.presets import Selector

from .version_facts import Part


@dataclass(frozen=True, slots=True)
class EndpointRef:
    """Which registry or Prometheus is meant; all empty for the operator's default.

    name: of one in the operator's configuration. url: of another one; secret: of the release's own namespace, with
    credentials for that URL; tenant: a header for it, where $(namespace) is the release's namespace.
    """

    name: str = ""
    url: str = ""
    secret: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class AliasWrite:
    """Move `alias` of `model` to `version`; None removes it.

    only_from: write only while the alias points at this version (giving it back after a rollback); None writes always.
    """

    model: str
    alias: str
    version: str | None
    only_from: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryWant:
    """Which versions and aliases of one model to keep fresh, none of them older than max_age.

    endpoint: None where the policy that names it cannot be read: the one that was wanted before, if any. parts: by
    version what is to be read of it beside metrics and tags; of a version that is not named here, the run.
    """

    model: str
    versions: frozenset[str]
    aliases: frozenset[str]
    max_age: timedelta
    write: AliasWrite | None = None
    endpoint: EndpointRef | None = EndpointRef()
    parts: Mapping[str, frozenset[Part]] = field(default_factory=dict)

    def parts_of(self, version: str) -> frozenset[Part]:
        """What is to be read of this version."""
        return self.parts.get(version, frozenset({Part.RUN}))


@dataclass(frozen=True, slots=True)
class Measure:
    """How one check counts. Exactly one of `bad` and `slower_than_s` is set.

    total and bad are counters; with slower_than_s, total is a histogram's base name and slower requests are bad.
    """

    check: str
    total: Selector
    bad: Selector | None = None
    slower_than_s: float | None = None


@dataclass(frozen=True, slots=True)
class SampleWant:
    """Increments of these measures for the pods of these revisions, for every grid point after `since`.

    arms: for each revision digest its measures' names are the same; stable and candidate may run different runtimes.
    """

    namespace: str
    release: str
    arms: Mapping[str, tuple[Measure, ...]]
    since: datetime
    endpoint: EndpointRef | None = EndpointRef()


@dataclass(frozen=True, slots=True)
class Wants:
    """All that one release wants from outside; None where it wants nothing."""

    registry: RegistryWant | None = None
    samples: SampleWant | None = None
