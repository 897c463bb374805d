"""The cluster as a person at a terminal reaches it: through kubectl, as a subprocess.

Measured: `import kubernetes.config` takes 310 ms, and kubectl starts in 50 ms, as often as wanted at the same time.
Besides, nothing else is right about credential plugins, client certificates, proxies and in-cluster configuration in
every case in which kubectl is. Reads go by path (`kubectl get --raw`), which asks for no list of kinds first, and are
started before what shows them is imported.

The rule it keeps: what is refused becomes one line that names the verb, the resource and the namespace.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import quote, urlencode

import click
import yaml

Object = dict[str, Any]
Reason = Literal["NotFound", "Forbidden", "Conflict", "Failed"]

GROUP_ROOT = "/apis/modelrelease.dev/v1alpha1"
RELEASES, RECORDS, APPROVALS = "modelreleases", "releaserecords", "releaseapprovals"
NAME_LABEL = "modelrelease.dev/name"
COMMAND_ANNOTATION = "modelrelease.dev/command"
REQUEST_TIMEOUT_S = 15
PAGE = 500
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?:.*? in the namespace "(?P<namespace>[^"]+)")?',
    re.DOTALL,
)
_P = ParamSpec("_P")
_R = TypeVar("_R")


class ClusterError(click.ClickException):
    """The cluster did not do what was asked. The message is one line; reason says what kind of failure it was."""

    def __init__(self, message: str, reason: Reason = "Failed") -> None:
        super().__init__(message)
        self.reason: Reason = reason


class Reading:
    """A read that is under way; `value` waits for it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def value(self) -> Object:
        """The object as the API server gave it. Raises ClusterError."""
        out, err = self._process.communicate()
        if self._process.returncode != 0:
            raise refused(err or out)
        try:
            found: Object = json.loads(out)
        except ValueError as error:
            raise ClusterError(f"the API server's answer is no JSON: {out[:100]!r}") from error
        return found

    def value_or(self, missing: Object | None = None) -> Object | None:
        """`missing` where it does not exist."""
        try:
            return self.value()
        except ClusterError as error:
            if error.reason == "NotFound":
                return missing
            raise


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster and namespace. flags: what tells kubectl which one, the same for every call."""

    namespace: str
    flags: tuple[str, ...] = ()
    program: str = "kubectl"

    # -- reading -----------------------------------------------------------------------------------------------------
    def start(self, path: str) -> Reading:
        """Begin to read a path of the API; several run at the same time."""
        return Reading(self._begin("get", "--raw", path, f"--request-timeout={REQUEST_TIMEOUT_S}s"))

    def get(self, path: str) -> Object:
        """Read a path of the API. Raises ClusterError."""
        return self.start(path).value()

    def release(self, name: str) -> Object:
        """One ModelRelease of the namespace. Raises ClusterError."""
        return self.get(self.path(RELEASES, name))

    def start_items(self, path: str) -> Listing:
        """Begin to read all objects of a list."""
        return Listing(self, path, self.start(_page(path)))

    # -- writing -----------------------------------------------------------------------------------------------------
    def patch(self, kind: str, name: str, body: Mapping[str, Any]) -> Object:
        """Merge `body` into an object of the namespace. kind: `modelreleases.modelrelease.dev`. Raises ClusterError."""
        words = ("patch", kind, name, "-n", self.namespace, "--type=merge", "-o", "json", "-p", json.dumps(body))
        return Reading(self._begin(*words, f"--request-timeout={REQUEST_TIMEOUT_S}s")).value()

    def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """Create an object below a path of the API. Raises ClusterError."""
        process = self._begin(
            "create", "--raw", path, "-f", "-", f"--request-timeout={REQUEST_TIMEOUT_S}s", stdin=subprocess.PIPE
        )
        out, err = process.communicate(json.dumps(body))
        if process.returncode != 0:
            raise refused(err or out)
        made: Object = json.loads(out)
        return made

    # -- paths -------------------------------------------------------------------------------------------------------
    def path(
        self, plural: str, name: str = "", *, root: str = GROUP_ROOT, everywhere: bool = False, **query: str
    ) -> str:
        """Path of a kind in the namespace (or in all), or of one object, with its query."""
        where = "" if everywhere else f"/namespaces/{self.namespace}"
        path = f"{root}{where}/{plural}" + (f"/{name}" if name else "")
        return f"{path}?{urlencode(query)}" if query else path

    def of_release(self, plural: str, name: str, *, root: str = GROUP_ROOT) -> str:
        """Path of all objects of a kind that carry the release's label."""
        return self.path(plural, root=root, labelSelector=f"{NAME_LABEL}={name}")

    def _begin(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                [self.program, *words, *self.flags],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            raise ClusterError(f"{self.program}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Listing:
    """A list that is being read, in pages."""

    cluster: Cluster
    path: str
    first: Reading

    def all(self) -> list[Object]:
        """Its objects. Raises ClusterError."""
        page = self.first.value()
        found: list[Object] = list(page.get("items") or ())
        while more := (page.get("metadata") or {}).get("continue"):
            page = self.cluster.get(_page(self.path, more))
            found += page.get("items") or ()
        return found


def _page(path: str, more: str = "") -> str:
    joined = "&" if "?" in path else "?"
    return f"{path}{joined}limit={PAGE}" + (f"&continue={quote(more)}" if more else "")


def connect(namespace: str | None = None, kubeconfig: str | None = None, context: str | None = None) -> Cluster:
    """The cluster that kubectl would speak to with these flags. Raises ClusterError where there is no kubectl."""
    program = shutil.which("kubectl")
    if program is None:
        raise ClusterError("kubectl is not on PATH: the plugin reaches the cluster through it")
    given = (("--kubeconfig", kubeconfig), ("--context", context))
    flags = tuple(f"{flag}={value}" for flag, value in given if value)
    return Cluster(namespace or _namespace(kubeconfig, context), flags, program)


def in_cluster(command: Callable[Concatenate[Cluster, _P], _R]) -> Callable[_P, _R]:
    """Give a command the flags that say which cluster, and the Cluster as its first argument."""

    @click.option("-n", "--namespace", metavar="NAME", help="Default: that of the kubeconfig's context.")
    @click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
    @click.option("--kubeconfig", metavar="FILE", type=click.Path(dir_okay=False), help="Default: as kubectl finds it.")
    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        flags: Any = kwargs
        where = connect(flags.pop("namespace"), flags.pop("kubeconfig"), flags.pop("context"))
        return command(where, *args, **kwargs)

    return wrapped


def refused(said: str) -> ClusterError:
    """The error for what kubectl wrote to standard error."""
    words = " ".join(said.split())
    if (match := _FORBIDDEN.search(words)) is not None:
        resource = ".".join(part for part in (match["resource"], match["group"]) if part)
        where = f"in namespace {match['namespace']}" if match["namespace"] else "in the whole cluster"
        text = f"not allowed: {match['user']} may not {match['verb']} {resource} {where}; it needs the verb"
        return ClusterError(f"{text} {match['verb']} on {resource} in RBAC", "Forbidden")
    if "could not find the requested resource" in words:
        return ClusterError(
            "the API server does not know this kind: are the CRDs of modelrelease installed?", "NotFound"
        )
    kinds: tuple[tuple[str, Reason], ...] = (
        ("NotFound", "NotFound"),
        ("Forbidden", "Forbidden"),
        ("Conflict", "Conflict"),
    )
    reason: Reason = next((reason for word, reason in kinds if f"({word})" in words), "Failed")
    short = re.sub(r"^(Error from server( \(\w+\))?: |error: )", "", words) or "kubectl failed and said nothing"
    return ClusterError(short[:400], reason)


# -- which namespace -------------------------------------------------------------------------------------------------
def _namespace(kubeconfig: str | None, context: str | None) -> str:
    """The namespace of the context, as kubectl finds it: files of KUBECONFIG in order, the first word counts."""
    listed = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    files = [kubeconfig] if kubeconfig else [item for item in listed.split(os.pathsep) if item]
    chosen, namespaces, found = context or "", dict[str, str](), False
    for file in files:
        known = _kubeconfig(Path(file))
        found = found or bool(known)
        chosen = chosen or str(known.get("current-context") or "")
        for item in known.get("contexts") or ():
            namespaces.setdefault(str(item["name"]), str((item.get("context") or {}).get("namespace") or ""))
    if not found and not context and "KUBERNETES_SERVICE_HOST" in os.environ and _SERVICE_ACCOUNT.is_file():
        return _SERVICE_ACCOUNT.read_text(encoding="utf-8").strip()
    return namespaces.get(chosen) or "default"


def _kubeconfig(path: Path) -> Object:
    """What kubectl will complain about is left to kubectl."""
    try:
        known = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return known if isinstance(known, dict) else {}
