"""The Kubernetes API: the only file that speaks to it, apart from the watches of `engine.watch`.

Objects go in and come out as plain dicts, just as the API server writes them; `clients.views` turns them into values of
`core`. Nothing is cached and nothing is retried here: a caller that wants to try again decides anew first.

The rule it keeps: every failure becomes one of the five errors below, told apart by what the caller can do about it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client import rest
from kubernetes.aio.config import ConfigException

from modelrelease.api.base import API_VERSION

Object = dict[str, Any]
FIELD_MANAGER = "modelrelease"
CONTROLLER = "modelrelease.dev/operator"
PAGE_SIZE = 500
_MESSAGE_LIMIT = 600
_NOTE_LIMIT_BYTES = 1024
_NO_ANSWER = "the Kubernetes API did not answer in time"
# What server-side apply answers where a body does not fit its kind: an unknown field, a bad quantity, an item twice.
_SAYS_500_AND_MEANS_400 = ("failed to create typed patch object", "failed to convert new object")
_ESCAPED_BY_GO = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as the API addresses it; api_version is `v1` or `<group>/<version>`."""

    api_version: str
    plural: str
    namespaced: bool
    kind: str

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def root(self) -> str:
        """Path of its group and version, without a trailing slash."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"


MODEL_RELEASE = Kind(API_VERSION, "modelreleases", True, "ModelRelease")
RELEASE_POLICY = Kind(API_VERSION, "releasepolicies", False, "ReleasePolicy")
RELEASE_APPROVAL = Kind(API_VERSION, "releaseapprovals", True, "ReleaseApproval")
RELEASE_RECORD = Kind(API_VERSION, "releaserecords", True, "ReleaseRecord")
DEPLOYMENT = Kind("apps/v1", "deployments", True, "Deployment")
SERVICE = Kind("v1", "services", True, "Service")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "httproutes", True, "HTTPRoute")
CONTROLLER_REVISION = Kind("apps/v1", "controllerrevisions", True, "ControllerRevision")
POD_MONITOR = Kind("monitoring.coreos.com/v1", "podmonitors", True, "PodMonitor")
NAMESPACE = Kind("v1", "namespaces", False, "Namespace")
POD = Kind("v1", "pods", True, "Pod")
NODE = Kind("v1", "nodes", False, "Node")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "endpointslices", True, "EndpointSlice")
LEASE = Kind("coordination.k8s.io/v1", "leases", True, "Lease")
_ADMISSION = "admissionregistration.k8s.io/v1"
ADMISSION_POLICY = Kind(_ADMISSION, "validatingadmissionpolicies", False, "ValidatingAdmissionPolicy")
ADMISSION_BINDING = Kind(_ADMISSION, "validatingadmissionpolicybindings", False, "ValidatingAdmissionPolicyBinding")
EVENT = Kind("events.k8s.io/v1", "events", True, "Event")


class KubeError(Exception):
    """Any failure of a request; the text is fit for people."""


class Conflict(KubeError):
    """The object is not as it was read (resourceVersion, uid, or a field of another manager): read and decide again."""


class AlreadyExists(KubeError):
    """Something of that name exists."""


class NotFound(KubeError):
    """The object, its namespace or its kind does not exist."""


class Refused(KubeError):
    """The API server understood and said no: 400, 403, 413, 422. `message` is its own, shortened."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unreachable(KubeError):
    """No usable answer: network, timeout, 401, 429, 5xx. The write may have happened."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What another client needs to reach the same API server; paths name files in PEM form."""

    server: str
    ca_path: str | None
    insecure: bool
    authorization: str | None
    certificate_path: str | None
    key_path: str | None


OnRequest = Callable[[str, str, str, float], None]
"""Called after every request with verb (as RBAC names it), kind, the status code or `unreachable`, and its seconds."""


def _ignore_request(verb: str, kind: str, code: str, seconds: float) -> None:
    pass


class Kube:
    """One shared connection pool to one API server. Make it with `await Kube.connect(...)`, end it with `close()`."""

    def __init__(
        self, configuration: client.Configuration, *, timeout_s: float = 10, on_request: OnRequest = _ignore_request
    ) -> None:
        self._configuration = configuration
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._on_request = on_request
        self._session: aiohttp.ClientSession | None = None  # needs a running loop

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None = None,
        *,
        context: str | None = None,
        timeout_s: float = 10,
        on_request: OnRequest = _ignore_request,
    ) -> Kube:
        """Read the pod's service account, or the named kubeconfig file. Raises Unreachable if that cannot be read."""
        configuration = client.Configuration()
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    kubeconfig, context=context, client_configuration=configuration, persist_config=False
                )
        except (ConfigException, OSError) as error:
            raise Unreachable(f"no credentials for the Kubernetes API: {error}") from error
        return cls(configuration, timeout_s=timeout_s, on_request=on_request)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def credentials(self) -> Credentials:
        """The credentials as they are now; a service account's token is rotated, so do not keep them for long."""
        return Credentials(
            server=self._configuration.host,
            ca_path=self._configuration.ssl_ca_cert,
            insecure=not self._configuration.verify_ssl,
            authorization=await self._authorization(),
            certificate_path=self._configuration.cert_file,
            key_path=self._configuration.key_file,
        )

    async def served(self, kind: Kind) -> bool:
        """Whether the API server knows this kind at all."""
        try:
            resources = await self._request("discover", kind, "GET", kind.root)
        except NotFound:
            return False
        return any(resource["name"] == kind.plural for resource in resources["resources"])

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None if it does not exist."""
        try:
            return await self._request("get", kind, "GET", _path(kind, namespace, name))
        except NotFound:
            return None

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str = "",
        *,
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> list[Object]:
        """All objects of a namespace (None: of all), page by page. Raises NotFound if the kind is not served.

        metadata_only asks for nothing but metadata.
        """
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" if metadata_only else None
        items: list[Object] = []
        query = {"limit": str(PAGE_SIZE)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        while True:
            page = await self._request("list", kind, "GET", _path(kind, namespace), query=query, accept=accept)
            # Items of built-in kinds come without the two fields that every single object has.
            items += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"] or ()]
            following = page["metadata"].get("continue")
            if not following:
                return items
            query["continue"] = following

    async def create(
        self, kind: Kind, namespace: str | None, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> Object:
        """Create; a field that the API server does not know is refused. Raises AlreadyExists."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", **_dry_run(dry_run)}
        return await self._request("create", kind, "POST", _path(kind, namespace), query=query, body=body)

    async def apply(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        dry_run: bool = False,
        force: bool = True,
    ) -> Object:
        """Server-side apply. Creates what does not exist.

        With metadata.uid and metadata.resourceVersion in body it changes the object just as it was read, else raises
        Conflict. Give both: resourceVersion alone creates anew what was deleted since. Without force, a field that
        another manager owns is a Conflict too.
        """
        query = {
            "fieldManager": FIELD_MANAGER,
            "fieldValidation": "Strict",
            "force": str(force).lower(),
            **_dry_run(dry_run),
        }
        named = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        path = _path(kind, namespace, name)
        return await self._request(
            "patch", kind, "PATCH", path, query=query, body=named, content="application/apply-patch+yaml"
        )

    async def patch(self, kind: Kind, namespace: str | None, name: str, body: Mapping[str, Any]) -> Object:
        """JSON merge patch: null removes. With metadata.resourceVersion in it a stale one raises Conflict.

        For a ControllerRevision use this, not apply(), which rewrites floats in data and is refused.
        """
        path = _path(kind, namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request(
            "patch", kind, "PATCH", path, query=query, body=body, content="application/merge-patch+json"
        )

    async def patch_status(
        self, kind: Kind, namespace: str | None, name: str, status: Mapping[str, Any], resource_version: str
    ) -> Object:
        """Replace the whole status of the object as it was at resource_version. Raises Conflict when that is stale.

        A JSON patch, because a merge patch would keep keys that are no longer there and a PUT would need another RBAC
        verb. It sets resourceVersion instead of testing it: a failed test answers 422, a stale write answers 409.
        """
        path = f"{_path(kind, namespace, name)}/status"
        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": status},
        ]
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request(
            "patch", kind, "PATCH", path, query=query, body=body, content="application/json-patch+json"
        )

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete this very object, its dependents in the background. One that is gone already is fine.

        Raises Conflict when the name belongs to another object now, or the object is newer than resource_version.
        """
        preconditions = {"uid": uid} if resource_version is None else {"uid": uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        }
        try:
            await self._request("delete", kind, "DELETE", _path(kind, namespace, name), body=body)
        except NotFound:
            return

    async def event(
        self,
        regarding: Mapping[str, Any],
        *,
        reason: str,
        note: str,
        action: str,
        now: datetime,
        type: Literal["Normal", "Warning"] = "Normal",
        key: str = "",
        instance: str = FIELD_MANAGER,
    ) -> None:
        """Post an events.k8s.io Event about an object, given as the API server returned it.

        The name is a digest of the object's uid and of what is said, so a retry says nothing twice. key tells apart two
        occasions of the same words, for example status.sequence. The note is cut at 1,024 bytes.
        """
        metadata = regarding["metadata"]
        note = note.encode()[:_NOTE_LIMIT_BYTES].decode(errors="ignore")
        said = "\0".join((metadata["uid"], reason, action, note, key))
        namespace = metadata.get("namespace") or "default"
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{metadata['name'][:200]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}",
                "namespace": namespace,
            },
            "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": instance[:128],
            "type": type,
            "reason": reason,
            "action": action,
            "note": note,
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }
        try:
            await self._request("create", EVENT, "POST", _path(EVENT, namespace), body=body)
        except AlreadyExists:
            return

    async def _request(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        accept: str | None = None,
    ) -> Object:
        code, began = "unreachable", time.monotonic()
        try:
            headers = {"Accept": accept or "application/json", "Content-Type": content}
            authorization = await self._authorization()
            if authorization:
                headers["Authorization"] = authorization
            async with self._connections().request(
                method,
                self._configuration.host + path,
                params=query,
                data=None if body is None else _encode(body),
                headers=headers,
                timeout=self._timeout,
                proxy=self._configuration.proxy,
                server_hostname=self._configuration.tls_server_name,
            ) as response:
                content_read = await response.read()
            code = str(response.status)
            answer = _parse(content_read, response.status)
        except (TimeoutError, aiohttp.ClientError, OSError, ConfigException) as error:
            raise Unreachable(f"the Kubernetes API cannot be reached: {error}" if str(error) else _NO_ANSWER) from error
        finally:
            self._on_request(verb, kind.kind, code, time.monotonic() - began)
        if 200 <= response.status < 300:
            return answer
        raise _error(response.status, answer)

    async def _authorization(self) -> str | None:
        setting = (await self._configuration.auth_settings()).get("BearerToken")
        return setting["value"] if setting else None

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = rest.RESTClientObject(self._configuration).ssl_context
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls),
                headers={"User-Agent": FIELD_MANAGER},
                trust_env=True,
            )
        return self._session


def _encode(body: Any) -> bytes:
    """JSON byte for byte as the API server itself writes it, floats excepted.

    It compares the data of a ControllerRevision by bytes: with a space after a colon, or keys in another order, any
    later change of a label is refused because "data is immutable".
    """
    text = json.dumps(body, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.translate(_ESCAPED_BY_GO).encode()


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    parts = [kind.root]
    if kind.namespaced and namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(kind.plural)
    if name is not None:
        parts.append(name)
    return "/".join(parts)


def _dry_run(wanted: bool) -> dict[str, str]:
    return {"dryRun": "All"} if wanted else {}


def _parse(content: bytes, status: int) -> Object:
    try:
        answer: Object = json.loads(content)
    except ValueError as error:  # a proxy's page, or a body cut off
        if 200 <= status < 300:
            raise Unreachable(f"the Kubernetes API answered {status} with something that is not JSON") from error
        return {"message": content.decode(errors="replace").strip()}
    return answer


def _error(status: int, answer: Object) -> KubeError:
    message = str(answer.get("message") or f"status {status}")
    causes = (answer.get("details") or {}).get("causes") or ()
    if len(message) > _MESSAGE_LIMIT:
        message = message[: _MESSAGE_LIMIT - 1] + "…"
    match status, answer.get("reason"):
        case 422, _ if any(cause.get("field") == "metadata.uid" for cause in causes):
            return Conflict(message)  # the name belongs to another object now
        case 409, "AlreadyExists":
            return AlreadyExists(message)
        case ((409 | 410), _):  # 410: a page of a list expired
            return Conflict(message)
        case 404, _:
            return NotFound(message)
        case ((401 | 429), _):
            return Unreachable(f"the Kubernetes API answered {status}: {message}")
        case 500, _ if message.startswith(_SAYS_500_AND_MEANS_400):
            return Refused(message)
        case _ if status >= 500:
            return Unreachable(f"the Kubernetes API answered {status}: {message}")
        case _:
            return Refused(message)
