"""Settings of the operator: one frozen value, read once from the environment.

Every field is the variable MODELRELEASE_<FIELD IN CAPITALS>, `_s` written out as _SECONDS, unless its docstring says
otherwise. An empty variable counts as not set. What cannot be meant is an error that names the variable.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from modelrelease.api.endpoints import (
    ConfiguredPrometheus,
    ConfiguredRegistry,
    Endpoints,
    PrometheusAllow,
    RegistryAllow,
    read_endpoints,
)

DEFAULT = "default"
_SERVICE_ACCOUNT = "KUBERNETES_SERVICE_HOST"
_LEVELS = ("debug", "info", "warning", "error")
_LABEL = re.compile(r"(?P<key>([a-z0-9.-]{1,253}/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,62})=(?P<value>[A-Za-z0-9_.-]{0,63})")
T = TypeVar("T")


class SettingsError(Exception):
    """A variable of the environment cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process runs. What a release does stands in its spec, not here."""

    registry_url: str = ""
    """URL of the MLflow server that all releases read. Required, unless the endpoints file names registries."""

    prometheus_url: str = ""
    """URL of the Prometheus that scrapes the model servers. Required, unless the endpoints file names some."""

    named: Endpoints = field(default_factory=Endpoints)
    """Content of the file MODELRELEASE_ENDPOINTS_FILE: several registries and Prometheus servers, and who may use them
    (docs/endpoints.md). Read once; the credential files that it names are read anew every time."""

    registry_username: str | None = None
    """User name for the registry: MLFLOW_TRACKING_USERNAME, as MLflow's own clients read it."""

    registry_password: str | None = field(default=None, repr=False)
    """Password for the registry: MLFLOW_TRACKING_PASSWORD."""

    registry_token: str | None = field(default=None, repr=False)
    """Bearer token for the registry: MLFLOW_TRACKING_TOKEN."""

    registry_token_file: str | None = None
    """File with a bearer token for the registry; read anew for every request, as such tokens are rotated."""

    registry_ca_file: str | None = None
    """PEM file with the authorities that the registry's certificate is checked against. Default: the system's."""

    registry_allow_alias_writes: bool = False
    """Whether releases may move aliases of the registry at MODELRELEASE_REGISTRY_URL: any release any alias. An
    endpoints file can say which namespaces may do so for which models."""

    registry_allow_file_sources: bool = False
    """Whether a model may be served from a file: URI. Only for a volume that registry and model servers share."""

    prometheus_token_file: str | None = None
    """File with a bearer token for Prometheus; read anew for every query, as such tokens are rotated."""

    prometheus_ca_file: str | None = None
    """PEM file with the authorities that Prometheus' certificate is checked against. Default: the system's."""

    tick_s: float = 5
    """Distance in seconds of the grid on which Prometheus is sampled: how soon harm can be seen. Below the scrape
    interval a poll brings nothing new."""

    sample_lag_s: float | None = None
    """How far samples lie in the past, in seconds, so that every scrape of that instant has been stored: at least the
    scrape timeout. Default: one tick."""

    workers: int = 16
    """How many releases are worked at once. A pass waits for the API server most of its time."""

    namespace: str = ""
    """The one namespace whose releases are worked; empty for all."""

    lease_name: str = "modelrelease"
    """Name of the Lease that makes one of several replicas the leader."""

    lease_namespace: str = "default"
    """Namespace of that Lease: POD_NAMESPACE where MODELRELEASE_LEASE_NAMESPACE is not set."""

    identity: str = ""
    """Holder of the Lease: POD_NAME where MODELRELEASE_IDENTITY is not set, else a name that no other process has."""

    port: int = 8080
    """Port of /healthz, /readyz and /metrics."""

    log_level: str = "info"
    """debug, info, warning or error."""

    kubeconfig: str | None = None
    """A kubeconfig file: KUBECONFIG where MODELRELEASE_KUBECONFIG is not set. In a pod, its service account is used."""

    kube_timeout_s: float = 10
    """Longest wait in seconds for one answer of the Kubernetes API; below the renew deadline of the Lease or equal."""

    approval_policy: str = "modelrelease-approval"
    """Name of the ValidatingAdmissionPolicy, and of its binding, without which no ReleaseApproval counts."""

    webhook_url: str | None = None
    """URL that is told of promotions, rollbacks, blocked versions and wanted retraining. Default: none is told."""

    webhook_secret_file: str | None = None
    """File with the secrets that a webhook is signed with, one a line; read anew for every attempt. Required with
    MODELRELEASE_WEBHOOK_URL."""

    webhook_ca_file: str | None = None
    """PEM file with the authorities that the webhook's certificate is checked against. Default: the system's."""

    record_retention_days: int = 400
    """After how many days a ReleaseRecord is deleted, once everybody has been told of it."""

    pod_monitor_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of every PodMonitor that the operator makes, as name=value,name=value: what your Prometheus selects by."""

    pod_monitor_interval: str = ""
    """How often those PodMonitors have model servers scraped, for example 10s. Default: as Prometheus does."""

    resync_s: float = 600
    """Within how many seconds every release is looked at once even if nothing happens, in case an event was missed."""

    @property
    def endpoints(self) -> Endpoints:
        """All endpoints: those of the file, and those of single variables under the name `default`."""
        changed: dict[str, Any] = {}
        if self.registry_url:
            allowed = RegistryAllow(namespaces=("*",), write=("*",) if self.registry_allow_alias_writes else ())
            registry = ConfiguredRegistry(
                name=DEFAULT,
                url=self.registry_url,
                token_file=self.registry_token_file,
                ca_file=self.registry_ca_file,
                allow=(allowed,),
            )
            changed |= {"registries": (registry,), "default_registry": DEFAULT}
        if self.prometheus_url:
            prometheus = ConfiguredPrometheus(
                name=DEFAULT,
                url=self.prometheus_url,
                token_file=self.prometheus_token_file,
                ca_file=self.prometheus_ca_file,
                allow=(PrometheusAllow(namespaces=("*",)),),
            )
            changed |= {"prometheuses": (prometheus,), "default_prometheus": DEFAULT}
        return self.named.model_copy(update=changed)


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingsError."""
    read = _Reader(environ)
    level = read.text("MODELRELEASE_LOG_LEVEL", "info").lower()
    if level not in _LEVELS:
        raise SettingsError(f"MODELRELEASE_LOG_LEVEL: {level!r} is none of {', '.join(_LEVELS)}")
    username, password = read.maybe("MLFLOW_TRACKING_USERNAME"), read.maybe("MLFLOW_TRACKING_PASSWORD")
    if (username is None) != (password is None):
        raise SettingsError("MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: set both or neither")
    token, token_file = read.maybe("MLFLOW_TRACKING_TOKEN"), read.file("MODELRELEASE_REGISTRY_TOKEN_FILE")
    if token and token_file:
        raise SettingsError("MLFLOW_TRACKING_TOKEN and MODELRELEASE_REGISTRY_TOKEN_FILE: set one of them")
    if (token or token_file) and username:
        raise SettingsError("MLFLOW_TRACKING_TOKEN and MLFLOW_TRACKING_USERNAME: set one of them")
    named = read.endpoints("MODELRELEASE_ENDPOINTS_FILE")
    webhook_url = read.url("MODELRELEASE_WEBHOOK_URL") if read.maybe("MODELRELEASE_WEBHOOK_URL") else None
    webhook_secret_file = read.file("MODELRELEASE_WEBHOOK_SECRET_FILE")
    if webhook_url is not None and webhook_secret_file is None:
        raise SettingsError("MODELRELEASE_WEBHOOK_SECRET_FILE: needed with MODELRELEASE_WEBHOOK_URL, to sign with")
    in_cluster = read.maybe(_SERVICE_ACCOUNT) is not None
    kubeconfig = read.maybe("MODELRELEASE_KUBECONFIG") or (None if in_cluster else read.maybe("KUBECONFIG"))
    if kubeconfig is None and not in_cluster:
        raise SettingsError("MODELRELEASE_KUBECONFIG: needed outside of a cluster; it names a kubeconfig file")
    return Settings(
        registry_url=read.url("MODELRELEASE_REGISTRY_URL", instead=bool(named.registries)),
        prometheus_url=read.url("MODELRELEASE_PROMETHEUS_URL", instead=bool(named.prometheuses)),
        named=named,
        registry_username=username,
        registry_password=password,
        registry_token=token,
        registry_token_file=token_file,
        registry_ca_file=read.file("MODELRELEASE_REGISTRY_CA_FILE"),
        registry_allow_alias_writes=read.flag("MODELRELEASE_REGISTRY_ALLOW_ALIAS_WRITES"),
        registry_allow_file_sources=read.flag("MODELRELEASE_REGISTRY_ALLOW_FILE_SOURCES"),
        prometheus_token_file=read.file("MODELRELEASE_PROMETHEUS_TOKEN_FILE"),
        prometheus_ca_file=read.file("MODELRELEASE_PROMETHEUS_CA_FILE"),
        tick_s=read.number("MODELRELEASE_TICK_SECONDS", 5.0, 0.1, 600),
        sample_lag_s=read.maybe_number("MODELRELEASE_SAMPLE_LAG_SECONDS", 0, 600),
        workers=read.number("MODELRELEASE_WORKERS", 16, 1, 256),
        namespace=read.text("MODELRELEASE_NAMESPACE", ""),
        lease_name=read.text("MODELRELEASE_LEASE_NAME", "modelrelease"),
        lease_namespace=read.text("MODELRELEASE_LEASE_NAMESPACE", read.text("POD_NAMESPACE", "default")),
        identity=read.text("MODELRELEASE_IDENTITY", read.text("POD_NAME", _own_name())),
        port=read.number("MODELRELEASE_PORT", 8080, 0, 65535),
        log_level=level,
        kubeconfig=kubeconfig,
        kube_timeout_s=read.number("MODELRELEASE_KUBE_TIMEOUT_SECONDS", 10.0, 0.1, 300),
        approval_policy=read.text("MODELRELEASE_APPROVAL_POLICY", "modelrelease-approval"),
        webhook_url=webhook_url,
        webhook_secret_file=webhook_secret_file,
        webhook_ca_file=read.file("MODELRELEASE_WEBHOOK_CA_FILE"),
        record_retention_days=read.number("MODELRELEASE_RECORD_RETENTION_DAYS", 400, 1, 36500),
        pod_monitor_labels=read.labels("MODELRELEASE_POD_MONITOR_LABELS"),
        pod_monitor_interval=read.interval("MODELRELEASE_POD_MONITOR_INTERVAL"),
        resync_s=read.number("MODELRELEASE_RESYNC_SECONDS", 600.0, 10, 86400),
    )


def _own_name() -> str:
    """Unlike a pod's name, a host's name may be shared by two processes that run at the same time."""
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"


class _Reader:
    """Reads variables; every error names the variable."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def maybe(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def text(self, name: str, default: str) -> str:
        return self.maybe(name) or default

    def number(self, name: str, default: T, least: float, most: float) -> T:
        """A number of the default's type within the bounds."""
        kind: Callable[[str], T] = type(default)
        text = self.maybe(name)
        if text is None:
            return default
        try:
            value = kind(text)
        except ValueError:
            raise SettingsError(f"{name}: {text!r} is not a {'whole ' if kind is int else ''}number") from None
        if not least <= float(value) <= most:  # type: ignore[arg-type]
            raise SettingsError(f"{name}: {text} is not between {least:g} and {most:g}")
        return value

    def maybe_number(self, name: str, least: float, most: float) -> float | None:
        return None if self.maybe(name) is None else self.number(name, 0.0, least, most)

    def flag(self, name: str) -> bool:
        text = self.text(name, "false").lower()
        if text not in ("true", "false"):
            raise SettingsError(f"{name}: {text!r} is neither true nor false")
        return text == "true"

    def url(self, name: str, *, instead: bool = False) -> str:
        """The URL; instead: whether the endpoints file says the same, so that it must not be set."""
        text = self.maybe(name)
        if text is not None and instead:
            raise SettingsError(f"{name}: set it or name endpoints in MODELRELEASE_ENDPOINTS_FILE, not both")
        if instead:
            return ""
        if text is None:
            raise SettingsError(f"{name}: not set; for example http://host:port")
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{name}: {text!r} is not an http or https URL")
        if parts.username or parts.password:
            raise SettingsError(f"{name}: credentials do not belong into a URL; give them as a Secret")
        return text.rstrip("/")

    def file(self, name: str) -> str | None:
        path = self.maybe(name)
        if path is not None and not Path(path).is_file():
            raise SettingsError(f"{name}: there is no file {path}")
        return path

    def labels(self, name: str) -> dict[str, str]:
        """Labels as name=value,name=value."""
        pairs = [item.strip() for item in self.text(name, "").split(",") if item.strip()]
        found = [_LABEL.fullmatch(pair) for pair in pairs]
        for pair, read in zip(pairs, found, strict=True):
            if read is None:
                raise SettingsError(f"{name}: {pair!r} is not a label and its value, for example release=prometheus")
        return {read["key"]: read["value"] for read in found if read is not None}

    def interval(self, name: str) -> str:
        """A duration as Prometheus writes it."""
        text = self.text(name, "")
        if text and not re.fullmatch("[0-9]+(ms|s|m|h)", text):
            raise SettingsError(f"{name}: {text!r} is not a duration, for example 10s")
        return text

    def endpoints(self, name: str) -> Endpoints:
        path = self.file(name)
        if path is None:
            return Endpoints()
        try:
            return read_endpoints(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{name}: {path}: {error}") from None
