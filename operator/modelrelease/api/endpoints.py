"""Registries and Prometheus servers: how a policy names one, and the file in which the operator's own stand.

Here: fields, bounds, and which namespace may use what. Not here: how Secrets and files are read (engine.secrets,
clients.connection), and what is asked of an endpoint.

The rule: whoever writes a policy names an endpoint, and cannot send the credentials of somebody else to it. What the
operator's file holds is used as its allow-list says; a Secret of the release's namespace goes only to the URL in it.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from .base import Name, SpecModel, check_unique, rule, validations

URL_MAX_LENGTH = 512
_URL = r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$"
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_OURS = frozenset(["authorization", "cookie", "host", "content-length", "content-type", "transfer-encoding"])
TENANT_HEADER = "X-Scope-OrgID"
NAMESPACE = "$(namespace)"


def _check_url(url: str) -> str:
    if re.match(_URL, url) is None:
        raise ValueError("not an http:// or https:// URL without user, query and fragment")
    try:
        host = urlsplit(url).hostname
        _ = urlsplit(url).port
    except ValueError:
        host = None
    if not host:
        raise ValueError("a URL without a host, or with a port that is none")
    return url.rstrip("/")


Url = Annotated[
    str,
    AfterValidator(_check_url),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": URL_MAX_LENGTH,
            **validations(
                rule(
                    f"self.matches('{_URL}')".replace("\\", "\\\\"),
                    "not an http:// or https:// URL without user, query and fragment",
                )
            ),
        }
    ),
    Field(max_length=URL_MAX_LENGTH),
]
Tenant = Annotated[str, Field(min_length=1, max_length=150, pattern=r"^([A-Za-z0-9!._*'()|-]|\$\(namespace\))+$")]


class SecretRef(SpecModel):
    """A Secret in the namespace of the release."""

    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Name of a Secret in the namespace of each release. Its keys: url, which must be the URL beside it "
        "(or the annotation modelrelease.dev/url), and any of username, password, token, ca.crt, tls.crt, tls.key.",
    )


_ONE = rule("has(self.name) != has(self.url)", "set exactly one of name and url")
_BESIDE = rule(
    "!has(self.secretRef) || has(self.url)", "secretRef belongs to url; what is named has its own credentials"
)


class _Endpoint(SpecModel):
    name: Name | None = Field(None, description="Name of an endpoint in the operator's own configuration.")
    url: Url | None = Field(None, description="URL of an endpoint that the operator's configuration does not name.")
    secret_ref: SecretRef | None = Field(None, description="Credentials for this URL. Default: none are sent.")

    @model_validator(mode="after")
    def _one_way(self) -> Any:
        if (self.name is None) == (self.url is None):
            raise ValueError("set exactly one of name and url")
        if self.secret_ref is not None and self.url is None:
            raise ValueError("secretRef belongs to url; what is named has its own credentials")
        return self


class PolicyRegistry(_Endpoint):
    """The MLflow server of the releases of a policy."""

    model_config = ConfigDict(json_schema_extra=validations(_ONE, _BESIDE))


class PolicyPrometheus(_Endpoint):
    """The Prometheus of the releases of a policy."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            _ONE, _BESIDE, rule("!has(self.tenant) || has(self.url)", "tenant belongs to url")
        )
    )

    tenant: Tenant | None = Field(
        None, description=f"Sent as the header {TENANT_HEADER}; {NAMESPACE} stands for the namespace of the release."
    )

    @model_validator(mode="after")
    def _tenant_of_url(self) -> PolicyPrometheus:
        if self.tenant is not None and self.url is None:
            raise ValueError("tenant belongs to url")
        return self


# -- the operator's own file ------------------------------------------------------------------------------------------
Globs = Annotated[tuple[str, ...], Field(max_length=256)]


class _Allow(SpecModel):
    namespaces: Globs = Field(min_length=1, description="Namespaces that this is for; * and ? as in file names.")


class RegistryAllow(_Allow):
    """What releases of some namespaces may do in a registry with the operator's credentials."""

    models: Globs = Field(("*",), description="Models that may be read.")
    write: Globs = Field((), description="Models of which aliases may be moved; none if absent.")


class PrometheusAllow(_Allow):
    """Namespaces whose releases may be measured by a Prometheus with the operator's credentials."""


class _Configured(SpecModel):
    name: Name
    url: Url
    credentials_dir: str | None = Field(
        None, description="A directory with any of the files username, password, token, ca.crt, tls.crt, tls.key."
    )
    username_file: str | None = None
    password_file: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def named_files(self) -> dict[str, str]:
        """The files that are named one by one, by their key in a Secret."""
        named = {
            "username": self.username_file,
            "password": self.password_file,
            "token": self.token_file,
            "ca.crt": self.ca_file,
            "tls.crt": self.cert_file,
            "tls.key": self.key_file,
        }
        return {key: path for key, path in named.items() if path is not None}


class ConfiguredRegistry(_Configured):
    """A registry of the operator's configuration. Nobody may use it whom `allow` does not name."""

    allow: tuple[RegistryAllow, ...] = Field((), max_length=1000)

    def reads(self, namespace: str, model: str) -> bool:
        """Whether a release of the namespace may read the model."""
        return any(_any(rule.namespaces, namespace) and _any(rule.models, model) for rule in self.allow)

    def writes(self, namespace: str, model: str) -> bool:
        """Whether a release of the namespace may move aliases of the model."""
        return any(_any(rule.namespaces, namespace) and _any(rule.write, model) for rule in self.allow)


class ConfiguredPrometheus(_Configured):
    """A Prometheus of the operator's configuration. Nobody may use it whom `allow` does not name."""

    headers: dict[str, str] = Field(default_factory=dict, max_length=16)
    tenant: Tenant | None = None
    allow: tuple[PrometheusAllow, ...] = Field((), max_length=1000)

    @model_validator(mode="after")
    def _plain_headers(self) -> ConfiguredPrometheus:
        for header, value in self.headers.items():
            if _HEADER.fullmatch(header) is None or header.lower() in _OURS:
                raise ValueError(f"headers: {header!r} cannot be set; credentials go into files")
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"headers: the value of {header} is not one line of plain characters")
        if self.tenant is not None and TENANT_HEADER.lower() in {header.lower() for header in self.headers}:
            raise ValueError(f"set tenant or the header {TENANT_HEADER}, not both")
        return self

    def serves(self, namespace: str) -> bool:
        """Whether releases of the namespace may be measured with it."""
        return any(_any(rule.namespaces, namespace) for rule in self.allow)


class Endpoints(SpecModel):
    """All that the operator's configuration names; the defaults are for releases whose policy names none."""

    registries: tuple[ConfiguredRegistry, ...] = Field((), max_length=200)
    prometheuses: tuple[ConfiguredPrometheus, ...] = Field((), max_length=200)
    default_registry: str | None = None
    default_prometheus: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Endpoints:
        for what, items, default in (
            ("registries", self.registries, self.default_registry),
            ("prometheuses", self.prometheuses, self.default_prometheus),
        ):
            names = [item.name for item in items]
            check_unique(what, names)
            if default is not None and default not in names:
                raise ValueError(f"{what}: the default {default!r} is not among them")
        return self

    def registry(self, name: str) -> ConfiguredRegistry | None:
        """The registry of this name; the default's for an empty one."""
        wanted = name or self.default_registry
        return next((item for item in self.registries if item.name == wanted), None)

    def prometheus(self, name: str) -> ConfiguredPrometheus | None:
        """The Prometheus of this name; the default's for an empty one."""
        wanted = name or self.default_prometheus
        return next((item for item in self.prometheuses if item.name == wanted), None)


def read_endpoints(text: str) -> Endpoints:
    """The endpoints of a YAML file. Raises ValueError that names the field."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None
    try:
        return Endpoints.model_validate({} if found is None else found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")) from None


def _any(globs: tuple[str, ...], text: str) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)
