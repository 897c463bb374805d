"""Which endpoint a release means, whether its namespace may use it, and whose credentials are used.

The rules: an endpoint of the operator's configuration is one place for all whom its allow-list names. One that a policy
names by URL is a place for each namespace: two tenants share no client, no session and nothing that was read. What the
allow-list refuses is never asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from modelrelease.api.endpoints import NAMESPACE, TENANT_HEADER, Endpoints
from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import ANONYMOUS, Files, Source
from modelrelease.clients.kube import Kube
from modelrelease.core.observation import Unavailable
from modelrelease.core.wants import EndpointRef

from .secrets import NamespaceSecret


class Place(NamedTuple):
    """An endpoint as one release means it. identity: what is shared by those for whom all of this is the same.

    own: whether the operator's configuration names it.
    """

    identity: tuple[str, ...]
    url: str
    credentials: Source
    headers: Mapping[str, str]
    own: bool


class Directory:
    """What endpoints there are, and with which credentials they are called."""

    def __init__(self, kube: Kube, endpoints: Endpoints, own: Mapping[str, Source] | None = None) -> None:
        """own: credentials of configured registries that do not come from files, by name."""
        self._kube = kube
        self.endpoints = endpoints
        self._own = own or {}

    def registry(self, ref: EndpointRef, namespace: str, model: str) -> Place | Unavailable:
        """The registry that a release means, if it may read the model there."""
        if ref.url:
            return self._by_url(ref, namespace)
        found = self.endpoints.registry(ref.name)
        if found is None:
            return _unknown("registry", ref.name, self.endpoints.default_registry)
        if not found.reads(namespace, model):
            words = f"namespace {namespace} may not read model {model} of registry {found.name}"
            who = "who runs the operator can allow it (endpoints: registries: allow)"
            return Unavailable(Reason.REGISTRY_NOT_ALLOWED, f"{words}; {who}")
        credentials = self._own.get(found.name) or Files(found.named_files(), found.credentials_dir)
        return Place(("registry", found.name), found.url, credentials, {}, own=True)

    def write_problem(self, ref: EndpointRef, namespace: str, model: str) -> Unavailable | None:
        """Why a release must not move aliases of the model there, None if it may."""
        if ref.url:
            if ref.secret:
                return None  # with the rights of its own namespace
            words = f"aliases at {ref.url} are not moved without credentials of namespace {namespace}"
            return Unavailable(Reason.ALIAS_WRITE_NOT_ALLOWED, f"{words}; the ReleasePolicy can name a secretRef")
        found = self.endpoints.registry(ref.name)
        if found is None or found.writes(namespace, model):
            return None
        words = f"namespace {namespace} may not move aliases of model {model} in registry {found.name}"
        who = "who runs the operator can allow it (endpoints: registries: allow: write)"
        return Unavailable(Reason.ALIAS_WRITE_NOT_ALLOWED, f"{words}; {who}")

    def prometheus(self, ref: EndpointRef, namespace: str) -> Place | Unavailable:
        """The Prometheus that a release means, if it may be measured there."""
        if ref.url:
            return self._by_url(ref, namespace)
        found = self.endpoints.prometheus(ref.name)
        if found is None:
            return _unknown("Prometheus", ref.name, self.endpoints.default_prometheus)
        if not found.serves(namespace):
            words = f"releases of namespace {namespace} may not be measured with Prometheus {found.name}"
            who = "who runs the operator can allow it (endpoints: prometheuses: allow)"
            return Unavailable(Reason.PROMETHEUS_NOT_ALLOWED, f"{words}; {who}")
        tenant = (found.tenant or "").replace(NAMESPACE, namespace)
        headers = {**found.headers, **({TENANT_HEADER: tenant} if tenant else {})}
        credentials = Files(found.named_files(), found.credentials_dir)
        return Place(("prometheus", found.name, tenant), found.url, credentials, headers, own=True)

    def _by_url(self, ref: EndpointRef, namespace: str) -> Place:
        tenant = ref.tenant.replace(NAMESPACE, namespace)
        credentials = NamespaceSecret(self._kube, namespace, ref.secret, ref.url) if ref.secret else ANONYMOUS
        identity = ("url", namespace, ref.url, ref.secret, tenant)
        return Place(identity, ref.url, credentials, {TENANT_HEADER: tenant} if tenant else {}, own=False)


def _unknown(what: str, name: str, default: str | None) -> Unavailable:
    if name:
        words = f"the operator's configuration has no {what} {name}; the ReleasePolicy names it"
    else:
        words = f"the operator's configuration has no default {what}, and no ReleasePolicy names one for this release"
    return Unavailable(Reason.ENDPOINT_NOT_CONFIGURED, words)
