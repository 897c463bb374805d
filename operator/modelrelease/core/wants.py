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
class TagWrite:
    """Set the tag `key` of a model version to `value`."""

    model: str
    version: str
    key: str
    value: str


RARELY = timedelta(days=2)
"""Age up to which a version that merely serves is believed: it is read again at half of it."""


@dataclass(frozen=True, slots=True)
class RegistryWant:
    """Which versions and aliases of one model to keep fresh, none of them older than max_age.

    endpoint: None where the policy that names it cannot be read: the one that was wanted before, if any. parts: by
    version what is to be read of it beside metrics and tags; of a version that is not named here, the run. sources: of
    what serves, the source that its pods were given; it is enough where only metrics are wanted. rarely: of the
    versions those that only have to be read about daily.
    """

    model: str
    versions: frozenset[str]
    aliases: frozenset[str]
    max_age: timedelta
    write: AliasWrite | None = None
    endpoint: EndpointRef | None = EndpointRef()
    parts: Mapping[str, frozenset[Part]] = field(default_factory=dict)
    tags: tuple[TagWrite, ...] = ()
    rarely: frozenset[str] = frozenset()
    sources: Mapping[str, str] = field(default_factory=dict)

    def age_of(self, kind: str, name: str) -> timedelta:
        """How old what is known of a version, alias or tag may get."""
        return RARELY if kind == "version" and name in self.rarely else self.max_age

    def parts_of(self, version: str) -> frozenset[Part]:
        """What is to be read of this version."""
        return self.parts.get(version, frozenset({Part.RUN}))


@dataclass(frozen=True, slots=True)
class Queries:
    """PromQL of counters as a person wrote it, with $(namespace), $(pods) and $(revision) not yet filled in."""

    total: str
    bad: str


@dataclass(frozen=True, slots=True)
class Measure:
    """How one check counts on the pods of one revision; one of these forms.

    Counters: the selectors of `total` summed, and `bad` as a sum of (factor, selector). Latency: `slower_than_s` holds
    the bounds, and `total` the histograms, by names without `_bucket`. `gauge`: a value as it stands. `custom`: own
    queries. `lacks`: why the revision's runtime cannot tell at all.
    """

    check: str
    total: tuple[Selector, ...] = ()
    bad: tuple[tuple[float, Selector], ...] = ()
    slower_than_s: tuple[float, ...] = ()
    gauge: Selector | None = None
    custom: Queries | None = None
    lacks: str = ""


@dataclass(frozen=True, slots=True)
class SampleWant:
    """Increments of these measures for the pods of these revisions, for every grid point after `since`.

    arms: for each revision digest its measures' names are the same; stable and candidate may run different runtimes.
    in_flight, progress: by revision digest, gauges and counters whose series are added up for each pod.
    endpoint: as in RegistryWant.
    """

    namespace: str
    release: str
    arms: Mapping[str, tuple[Measure, ...]]
    since: datetime
    in_flight: Mapping[str, tuple[Selector, ...]] = field(default_factory=dict)
    progress: Mapping[str, tuple[Selector, ...]] = field(default_factory=dict)
    endpoint: EndpointRef | None = EndpointRef()


@dataclass(frozen=True, slots=True)
class Wants:
    """All that one release wants from outside; None where it wants nothing."""

    registry: RegistryWant | None = None
    samples: SampleWant | None = None
