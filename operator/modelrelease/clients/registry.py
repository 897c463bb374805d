"""The model registry: MLflow's own REST client behind one small class.

Here: which requests describe a version, which metric values count, how every failure is told apart. Not here: when to
read, how long a value lasts (engine.refresh), and what it means for a release (core.gates).

The rules: a look-up returns a value, never an exception. Credentials belong to one RegistryClient and go to its URL
only (clients.connection), never through MLflow's process-wide variables. mlflow is imported at the first look-up, in
the thread that makes it: the import takes seconds.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from modelrelease.api.reasons import Reason
from modelrelease.core.observation import AliasTarget, Lookup, Missing, TagWritten, Unavailable
from modelrelease.core.version_facts import Part
from modelrelease.core.wants import AliasWrite, TagWrite

from . import registry_reading
from .connection import ANONYMOUS, BoundedSession, Connection, Source
from .failures import connection_problem, is_tls_failure, one_line, public

logger = logging.getLogger(__name__)

SOURCE_SCHEMES = frozenset(["models", "runs", "mlflow-artifacts", "s3", "gs", "abfss", "hf", "oci", "http", "https"])
"""Where a served model may come from; `file` only where the settings of the operator allow it."""

_PAGE, _PAGES = 1000, 5  # of models; MLflow refuses larger pages
_FILTER_MAX = 6000  # characters of a filter in a URL: servers and proxies take 8 KiB

_SOURCE = re.compile(r"(?P<scheme>[a-z][a-z0-9+-]*):(?P<rest>/[A-Za-z0-9._~:/@%+=,-]{1,2000})")
_REGISTERED = "mlflow.modelVersions"
_LOGGED_MODEL = re.compile(r"models:/(m-[A-Za-z0-9]+)(?:/.*)?")


@dataclass(frozen=True, slots=True)
class RegistryEndpoint:
    """One registry and who we are there, asked for anew at every request."""

    url: str
    credentials: Source = field(default=ANONYMOUS, repr=False)


@dataclass(frozen=True, slots=True)
class Down(Unavailable):
    """The registry as a whole does not answer us now: every other look-up would end in the same way."""


class RegistryClient:
    """Reads versions and aliases of one registry and moves aliases there. Blocking; several threads may share it."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        *,
        timeout_s: float = 10,
        retries: int = 1,
        allow_file_sources: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._connection = Connection(endpoint.credentials, BoundedSession, retries=retries)
        self._schemes = SOURCE_SCHEMES | {"file"} if allow_file_sources else SOURCE_SCHEMES
        self._now = now
        self._no_in = False

    def read_version(
        self, model: str, version: str, parts: frozenset[Part] = frozenset({Part.RUN}), source: str = ""
    ) -> Lookup:
        """One version with its metrics, its tags and these parts: 2 GETs and those of the parts, 2 if it is missing.

        A source outside the allow-list is Unavailable(SOURCE_REFUSED). A version's tags stand above those of its run.
        source: what it is served from, where its metrics are all that is wanted: 1 GET of a LoggedModel that has some
        and says itself that it is this version. A source alone proves nothing: it could be of a model not allowed.
        """
        try:
            if source and not parts and (logged_as := _logged_model(source)) is not None:
                served = registry_reading.Served(model, version, source)
                told = registry_reading.describe(self._source, served, logged_as, parts, self._now)
                if told.metrics and _registered_as(told.model_tags.get(_REGISTERED, ""), model, version):
                    return told
            found = self._models.get_model_version(model, version)
            if (found.name, found.version) != (model, version):
                return self._unavailable(Reason.REGISTRY_ERROR, "answered with another version than asked for")
            if problem := source_problem(found.source, self._schemes):
                return Unavailable(Reason.SOURCE_REFUSED, f"source of {model} version {version} refused: {problem}")
            return registry_reading.describe(
                self._source, found, _logged_model(found.source) or found.model_id or None, parts, self._now
            )
        except self._errors as error:
            code = _code(error)
            if code == "INVALID_PARAMETER_VALUE":
                return Missing(Reason.VERSION_NOT_FOUND, f"{model} has no version {version!r}: {_words(error)}")
            if code != "RESOURCE_DOES_NOT_EXIST":
                return self._failure(error)
        model_lookup = self._aliases(model)
        if isinstance(model_lookup, Missing | Unavailable):
            return model_lookup
        return Missing(Reason.VERSION_NOT_FOUND, f"{model} has no version {version} in {self._where}")

    def read_alias(self, model: str, alias: str) -> AliasTarget | Missing | Unavailable:
        """Where an alias points: one GET."""
        aliases = self._aliases(model)
        if not isinstance(aliases, dict):
            return aliases
        if alias not in aliases:
            return Missing(Reason.ALIAS_NOT_FOUND, f"{model} has no alias {alias!r} in {self._where}")
        return AliasTarget(str(aliases[alias]), self._now())

    def read_aliases(
        self, wanted: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], AliasTarget | Missing] | Unavailable:
        """Where these (model, alias) point: one GET, whatever their number; what it does not tell is absent.

        Models are asked for by name; where the names are too long for one URL, or the registry knows no `IN`, it lists
        its models, a thousand a page and five pages at most. A model with a quote in its name is never told.
        """
        models = {model for model, _ in wanted if "'" not in model}
        try:
            found = self._search(models)
        except self._errors as error:
            return self._failure(error)
        read_at = self._now()
        told: dict[tuple[str, str], AliasTarget | Missing] = {}
        for model, alias in wanted:
            aliases = found.get(model)
            if aliases is None:
                continue
            missing = Missing(Reason.ALIAS_NOT_FOUND, f"{model} has no alias {alias!r} in {self._where}")
            told[model, alias] = AliasTarget(aliases[alias], read_at) if alias in aliases else missing
        return told

    def _search(self, models: set[str]) -> dict[str, dict[str, str]]:
        """Aliases by model, of those of `models` that exist and can be seen."""
        quoted = ",".join(f"'{model}'" for model in sorted(models))
        names = f"name IN ({quoted})"
        found: dict[str, dict[str, str]] = {}
        if len(quote(names)) <= _FILTER_MAX and not self._no_in:
            try:
                page = self._models.search_registered_models(names, _PAGE)
                return {item.name: _alias_names(item) for item in page if item.name in models}
            except self._rest.RefusedError as error:
                if _code(error) != "INVALID_PARAMETER_VALUE":
                    raise
                self._no_in = True
        token: str | None = None
        for _ in range(_PAGES):
            page = self._models.search_registered_models(None, _PAGE, page_token=token)
            found |= {item.name: _alias_names(item) for item in page if item.name in models}
            token = page.token or None
            if token is None or len(found) == len(models):
                break
        return found

    def write_alias(self, write: AliasWrite) -> AliasTarget | Missing | Unavailable:
        """Move the alias if it is not there yet and `only_from` allows it; returns where it points afterwards.

        The registry has no compare-and-set: another writer can slip in between reading and writing; the last one wins.
        Unavailable(ALIAS_WRITE_FAILED) if the write itself was refused or its outcome is unknown.
        """
        before = self.read_alias(write.model, write.alias)
        if isinstance(before, Unavailable):
            return before
        holder = before.version if isinstance(before, AliasTarget) else None
        if holder == write.version or write.only_from not in (None, holder):
            return before
        if isinstance(before, Missing) and before.reason is Reason.MODEL_NOT_FOUND:
            return before
        try:
            if write.version is None:
                self._models.delete_registered_model_alias(write.model, write.alias)
            else:
                self._models.set_registered_model_alias(write.model, write.alias, write.version)
        except self._errors as error:
            goal = "was not removed" if write.version is None else f"was not moved to version {write.version}"
            message = f"alias {write.alias} of {write.model} {goal}: {self._failure(error).message}"
            return Unavailable(Reason.ALIAS_WRITE_FAILED, message)
        return self.read_alias(write.model, write.alias)

    def write_tag(self, write: TagWrite) -> TagWritten | Missing | Unavailable:
        """Set one tag of a version: one POST; repeating it does no harm."""
        try:
            tag = self._rest.version_tag(write.key, write.value)
            self._models.set_model_version_tag(write.model, write.version, tag)
        except self._errors as error:
            if _code(error) == "RESOURCE_DOES_NOT_EXIST":
                return Missing(
                    Reason.VERSION_NOT_FOUND, f"{write.model} has no version {write.version} in {self._where}"
                )
            return self._failure(error)
        return TagWritten(write.value)

    def _aliases(self, model: str) -> dict[str, str] | Missing | Unavailable:
        try:
            found = self._models.get_registered_model(model)
            if found.name != model:
                return self._unavailable(Reason.REGISTRY_ERROR, "answered with another model than asked for")
            return dict(found.aliases)
        except self._errors as error:
            if _code(error) == "RESOURCE_DOES_NOT_EXIST":
                return Missing(Reason.MODEL_NOT_FOUND, f"there is no model {model!r} in {self._where}")
            return self._failure(error)

    def _found(self, read: Callable[[], Any]) -> Any:
        """What `read` finds, None where the registry says that it does not exist (a deleted run, for example)."""
        try:
            return read()
        except self._errors as error:
            if _code(error) == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    # -- MLflow's parts, imported at the first look-up -----------------------------------------------------------
    @cached_property
    def _rest(self) -> Any:
        return importlib.import_module("modelrelease.clients.mlflow_rest")

    @cached_property
    def _stores(self) -> tuple[Any, Any]:
        server = self._rest.Server(self._endpoint.url, self._timeout_s, self._session)
        stores: tuple[Any, Any] = self._rest.connect(server)
        return stores

    def _session(self) -> requests.Session:
        session = self._connection.session()
        if isinstance(session, Unavailable):
            raise _NobodyError(session)
        return session

    @property
    def _models(self) -> Any:
        return self._stores[0]

    @property
    def _runs(self) -> Any:
        return self._stores[1]

    @property
    def _source(self) -> registry_reading.Source:
        return registry_reading.Source(
            self._runs, self._runs.download, self._errors, self._found, self._failure, _code, self._where
        )

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        return (_NobodyError, self._rest.RefusedError, *self._rest.FAILURES)

    # -- failures ------------------------------------------------------------------------------------------------
    @property
    def _where(self) -> str:
        return f"the registry at {public(self._endpoint.url)}"

    def _unavailable(self, reason: Reason, what: str) -> Unavailable:
        return Unavailable(reason, f"{self._where} {what}")

    def _failure(self, error: Exception) -> Unavailable:
        """The one place where a failed request gets its reason; the same cause has the same words at every try."""
        if isinstance(error, _NobodyError):
            return Down(error.problem.reason, error.problem.message)
        if not isinstance(error, self._rest.RefusedError):
            if what := connection_problem(error):
                reason = Reason.REGISTRY_TLS_FAILED if is_tls_failure(error) else Reason.REGISTRY_UNREACHABLE
                return Down(reason, f"{self._where} {what}")
            logger.debug("unreadable answer of %s", self._where, exc_info=error)
            return self._unavailable(Reason.REGISTRY_ERROR, "gave an answer that is not MLflow's; check the URL")
        status: int = error.status
        if status == 403 and "Invalid Host header" in error.text:
            host = urlsplit(self._endpoint.url).netloc.rpartition("@")[2]
            fix = f"start the MLflow server with --allowed-hosts that include {host!r}"
            words = f"{self._where} refuses the host name it is called by; {fix}"
            return Down(Reason.REGISTRY_REFUSED_HOST, words)
        if status == 401:
            words = f"{self._where} does not accept the credentials (HTTP 401)"
            return Down(Reason.REGISTRY_UNAUTHORIZED, words)
        if status == 403:
            return self._unavailable(Reason.REGISTRY_UNAUTHORIZED, "does not allow this to the credentials (HTTP 403)")
        if 300 <= status < 400:
            return self._unavailable(Reason.REGISTRY_ERROR, f"redirects, which is not followed (HTTP {status})")
        if status < 500 and error.code:
            return self._unavailable(Reason.REGISTRY_ERROR, f"refused (HTTP {status}): {_words(error)}")
        return self._unavailable(Reason.REGISTRY_ERROR, f"answers with an error (HTTP {status})")


class _NobodyError(Exception):
    """There are no credentials to call with; never leaves this module."""

    def __init__(self, problem: Unavailable) -> None:
        super().__init__(problem.message)
        self.problem = problem


def source_problem(source: str, schemes: Iterable[str] = SOURCE_SCHEMES) -> str | None:
    """Why a model's source must not get into a pod's environment, None if it may."""
    found = _SOURCE.fullmatch(source)
    if found is None:
        return "it is not a URI of plain characters"
    if found["scheme"] not in schemes:
        return f"scheme {found['scheme']!r} is not one of {', '.join(sorted(schemes))}"
    if ".." in re.split(r"[/:]", found["rest"]):
        return "its path contains '..'"
    authority = found["rest"][2:].split("/", 1)[0] if found["rest"].startswith("//") else ""
    if ":" in authority.rpartition("@")[0]:
        return "it contains a password"
    return None


def _alias_names(found: Any) -> dict[str, str]:
    return {str(alias): str(version) for alias, version in dict(found.aliases).items()}


def _logged_model(source: str) -> str | None:
    """Id of the LoggedModel that a source names; open-source servers leave a version's `model_id` empty."""
    match = _LOGGED_MODEL.fullmatch(source)
    return match[1] if match else None


def _registered_as(tag: str, model: str, version: str) -> bool:
    """Whether a LoggedModel was registered as this version, by the tag that the server writes then."""
    try:
        return any((item["name"], str(item["version"])) == (model, version) for item in json.loads(tag))
    except (ValueError, TypeError, KeyError):
        return False


def _code(error: Exception) -> str:
    """MLflow's own error code, empty if no MLflow server spoke: not any 404 means that something does not exist."""
    return str(getattr(error, "code", ""))


def _words(error: Exception) -> str:
    return one_line(str(getattr(error, "text", error)))
