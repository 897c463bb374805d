"""A ModelRelease for what a Deployment runs today: `kubectl modelrelease init`.

From a Deployment, the Services that select its pods and the HTTPRoutes that lead to these, to a release that runs the
same pods, with a remark on everything that is a guess, and the steps from one to the other without an outage. Pure. The
rule: what is not known is said, what a template must not have is taken out and named.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelrelease.api.base import API_VERSION, GROUP
from modelrelease.api.release import NAME_MAX
from modelrelease.api.template import RESERVED_ENV, RESERVED_PREFIX
from modelrelease.presets import preset

Object = Mapping[str, Any]
Path = tuple[str | int, ...]
_RUNTIMES = (("sglang", "sglang"), ("vllm", "vllm"), ("triton", "triton"))
_MODEL_FLAGS = {"vllm": ("--model",), "sglang": ("--model-path", "--model")}
_MODELS = re.compile(r"models:/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)/(?P<version>[1-9][0-9]*)")
_TAKEN_LABELS = ("pod-template-hash",)
_TAKEN_ANNOTATIONS = ("kubectl.kubernetes.io/", "deployment.kubernetes.io/")
_POD_DEFAULTS: Mapping[str, Any] = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
_CONTAINER_DEFAULTS: Mapping[str, Any] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
_PROBE_DEFAULTS: Mapping[str, Any] = {
    "failureThreshold": 3,
    "periodSeconds": 10,
    "successThreshold": 1,
    "timeoutSeconds": 1,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person said; None where they left it to be found out. gateway: namespace (or None) and name."""

    name: str | None = None
    model: str | None = None
    version: str | None = None
    gateway: tuple[str | None, str] | None = None
    http_route: str | None = None


@dataclass(slots=True)
class Adoption:
    """document: the ModelRelease. remarks: by path, what to look at there. steps: how to move over."""

    document: dict[str, Any]
    remarks: list[tuple[Path, str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


class NotAdoptable(ValueError):
    """Something that only a person can say is missing; the message asks for it."""


def services_of(deployment: Object, services: Sequence[Object]) -> list[Object]:
    """The Services that select the Deployment's pods."""
    labels = (deployment["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return [item for item in services if (chosen := item["spec"].get("selector")) and chosen.items() <= labels.items()]


def routes_to(services: Sequence[Object], routes: Sequence[Object]) -> list[tuple[Object, int]]:
    """The HTTPRoutes of the namespace that name one of these Services, each with the first rule that does."""
    names = {item["metadata"]["name"] for item in services}
    found = []
    for route in routes:
        for number, rule in enumerate(route["spec"].get("rules") or ()):
            if any(ref.get("name") in names and ref.get("kind", "Service") == "Service" for ref in _refs(rule)):
                found.append((route, number))
                break
    return found


def adopt(deployment: Object, services: Sequence[Object], routes: Sequence[Object], asked: Asked) -> Adoption:
    """The release. services, routes: all of the namespace. Raises NotAdoptable."""
    own, service_name = services_of(deployment, services), deployment["metadata"]["name"]
    leading = routes_to(own, routes)
    name = _name(asked, service_name, {item["metadata"]["name"] for item in routes})
    made = Adoption({"apiVersion": API_VERSION, "kind": "ModelRelease", "metadata": {"name": name}, "spec": {}})
    if namespace := deployment["metadata"].get("namespace"):
        made.document["metadata"]["namespace"] = namespace
    if name != service_name:
        made.remarks.append((("metadata", "name"), f"an HTTPRoute {service_name} exists, and the operator's would too"))
    template = copy.deepcopy(dict(deployment["spec"]["template"]))
    spec = made.document["spec"]
    spec["model"] = _model(made, asked, service_name, template)
    runtime = _runtime(made, template)
    spec["workload"] = {
        "replicas": deployment["spec"].get("replicas", 1),
        "runtime": runtime,
        "ports": _ports(made, template, own, runtime),
        "template": template,
    }
    _clean(made, template, own, runtime)
    spec["traffic"] = _traffic(made, asked, leading, name)
    made.remarks.append(
        (("spec",), "add gates: what its evaluation must show. Without one every version may go out (docs/gates.md).")
    )
    made.steps += _steps(made, deployment, own, leading, asked, name)
    return made


def _name(asked: Asked, deployment: str, routes: set[str]) -> str:
    name = asked.name or deployment
    if asked.name is None and asked.http_route is None and name in routes:
        name = f"{name}-release"
    if len(name) > NAME_MAX:
        raise NotAdoptable(f"{name} has more than {NAME_MAX} characters: give --name")
    return name


# -- the model -------------------------------------------------------------------------------------------------------
def _model(made: Adoption, asked: Asked, deployment: str, template: Object) -> dict[str, Any]:
    told = next((match for text in _texts(template) if (match := _MODELS.search(text))), None)
    env = {item.get("name"): item.get("value") for item in _variables(template)}
    name = asked.model or (told["name"] if told else None) or env.get("MODEL_NAME")
    version = asked.version or (told["version"] if told else None) or env.get("MODEL_VERSION")
    if not name:
        made.remarks.append((("spec", "model", "name"), "GUESS: the Deployment's name; write the model's in MLflow"))
    if not version or not str(version).isdigit():
        made.remarks.append((("spec", "model", "version"), "GUESS: nothing says which version runs; write its number"))
        version = 1
    elif asked.version is None:
        made.remarks.append((("spec", "model", "version"), "as the Deployment's arguments or environment say"))
    return {"name": str(name or deployment), "version": int(version)}


def _texts(template: Object) -> Iterator[str]:
    for container in _containers(template):
        yield from (str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ())))
    yield from (str(item.get("value") or "") for item in _variables(template))


def _variables(template: Object) -> Iterator[dict[str, Any]]:
    for container in _containers(template):
        yield from container.get("env") or ()


def _containers(template: Object) -> list[dict[str, Any]]:
    return [*(template["spec"].get("containers") or ()), *(template["spec"].get("initContainers") or ())]


# -- the server ------------------------------------------------------------------------------------------------------
def _runtime(made: Adoption, template: Object) -> str:
    for container in template["spec"]["containers"]:
        words = [str(container.get("image") or ""), *map(str, container.get("command") or ())]
        words += [str(word) for word in container.get("args") or ()]
        for sign, runtime in _RUNTIMES:
            if any(sign in word for word in words):
                made.remarks.append((("spec", "workload", "runtime"), f"GUESS: from container {container['name']}"))
                return runtime
    usual = "GUESS: no other is recognised; its checks count http_requests_total and http_request_duration_seconds"
    made.remarks.append((("spec", "workload", "runtime"), usual))
    return "http"


def _ports(made: Adoption, template: Object, services: Sequence[Object], runtime: str) -> dict[str, int]:
    known = preset(runtime)
    named = {
        str(port.get("name")): int(port["containerPort"])
        for container in template["spec"]["containers"]
        for port in container.get("ports") or ()
    }
    at: Path = ("spec", "workload", "ports")
    targets = [port.get("targetPort", port["port"]) for item in services for port in item["spec"].get("ports") or ()]
    http = next((named.get(str(port), port) for port in targets if str(port) in named or isinstance(port, int)), None)
    if http is None:
        http = next(iter(named.values()), known.http_port)
        made.remarks.append((at, "GUESS: no Service of the Deployment says which port takes requests"))
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    told = annotations.get("prometheus.io/port")
    metrics = next((port for name, port in named.items() if "metrics" in name), None)
    metrics = metrics or (int(told) if told is not None and str(told).isdigit() else None)
    usual = known.metrics_port if known.metrics_port != known.http_port else http
    if metrics is None or metrics == usual:
        return {"http": int(http)}
    return {"http": int(http), "metrics": metrics}


# -- the template ----------------------------------------------------------------------------------------------------
def _clean(made: Adoption, template: dict[str, Any], services: Sequence[Object], runtime: str) -> None:
    """Take out what the API server fills in, what is the operator's, and what would lead the old Services here."""
    at: Path = ("spec", "workload", "template")
    metadata = template.get("metadata") or {}
    selected = {key for item in services for key in item["spec"]["selector"]}
    labels = dict(metadata.get("labels") or {})
    kept = {
        key: value
        for key, value in labels.items()
        if key not in selected and key not in _TAKEN_LABELS and not key.startswith(RESERVED_PREFIX)
    }
    if gone := sorted(selected & labels.keys()):
        names = ", ".join(sorted(item["metadata"]["name"] for item in services))
        made.remarks.append(
            (at, f"without the labels {', '.join(gone)}: Service {names} would send users to every pod of a canary")
        )
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not key.startswith((*_TAKEN_ANNOTATIONS, RESERVED_PREFIX))
    }
    template.pop("metadata", None)
    parts = {"labels": kept, "annotations": annotations}
    if shown := {key: value for key, value in parts.items() if value}:
        template["metadata"] = shown
    pod = template["spec"] = _without(template["spec"], _POD_DEFAULTS)
    if pod.get("serviceAccount") == pod.get("serviceAccountName"):
        pod.pop("serviceAccount", None)
    for kind in ("containers", "initContainers"):
        if kind in pod:
            pod[kind] = [
                _container(made, item, (*at, "spec", kind, number), runtime) for number, item in enumerate(pod[kind])
            ]
    _grace(made, pod, runtime, at)
    template_parts = dict(template)
    template.clear()
    template.update({key: template_parts[key] for key in ("metadata", "spec") if key in template_parts})


def _grace(made: Adoption, pod: dict[str, Any], runtime: str, at: Path) -> None:
    drain = int(preset(runtime).drain_timeout.total_seconds())
    seen = pod.get("terminationGracePeriodSeconds", 30)
    if seen < drain:
        pod["terminationGracePeriodSeconds"] = drain + 30
        words = f"was {seen}: requests in flight may take {drain}s to end (drainTimeout, as is usual for {runtime})"
        made.remarks.append(((*at, "spec", "terminationGracePeriodSeconds"), words))


def _container(made: Adoption, container: dict[str, Any], at: Path, runtime: str) -> dict[str, Any]:
    out = _without(container, _CONTAINER_DEFAULTS)
    image = str(out.get("image") or "")
    latest = "@" not in image and image.rpartition("/")[2].partition(":")[2] in ("", "latest")
    if out.get("imagePullPolicy") == ("Always" if latest else "IfNotPresent"):
        del out["imagePullPolicy"]
    if "@" not in image:
        made.remarks.append(((*at, "image"), "name it by digest (@sha256:...): a tag may move after the evaluation"))
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        if probe in out:
            out[probe] = _without(out[probe], _PROBE_DEFAULTS)
            for action in ("httpGet", "grpc"):
                if action in out[probe]:
                    out[probe][action] = _without(out[probe][action], {"scheme": "HTTP", "service": ""})
    for port in out.get("ports") or ():
        if port.get("protocol") == "TCP":
            del port["protocol"]
    env = [item for item in out.get("env") or () if item.get("name") not in RESERVED_ENV]
    if taken := [str(item["name"]) for item in out.get("env") or () if item.get("name") in RESERVED_ENV]:
        made.remarks.append((at, f"without {', '.join(taken)}: the operator sets them for every version"))
        out.pop("env")
        if env:
            out["env"] = env
    if at[-2] == "containers":
        if "readinessProbe" not in out:
            made.remarks.append((at, "add a readinessProbe: else users come while the model is being loaded"))
        if runtime in _MODEL_FLAGS and any(runtime in str(word) for word in (image, *_words(out))):
            _arguments(made, out, at, runtime)
    return out


def _words(container: Object) -> list[str]:
    return [str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]


def _arguments(made: Adoption, container: dict[str, Any], at: Path, runtime: str) -> None:
    """Let the server load the release's version, under a name that does not change with it."""
    former = None
    for place in ("command", "args"):
        words = [str(word) for word in container.get(place) or ()]
        for number, word in enumerate(words):
            flag, found, value = word.partition("=")
            if flag in _MODEL_FLAGS[runtime] and found:
                former, words[number] = value, f"{flag}=$(MODEL_URI)"
                continue
            follows = words[number + 1] if number + 1 < len(words) else "-"
            if word in (*_MODEL_FLAGS[runtime], "serve") and not follows.startswith("-"):
                former, words[number + 1] = follows, "$(MODEL_URI)"
        if words:
            container[place] = words
    if former is None:
        container["args"] = [*(container.get("args") or ()), f"{_MODEL_FLAGS[runtime][0]}=$(MODEL_URI)"]
    if not any(word.partition("=")[0] == "--served-model-name" for word in _words(container)):
        name = former if former and "$" not in former else "$(MODEL_NAME)"
        container["args"] = [*(container.get("args") or ()), f"--served-model-name={name}"]
        made.remarks.append(((*at, "args"), "--served-model-name: the name that clients ask for stays what it is"))
    was = f"the model was {former}" if former else "no argument named the model"
    words_ = f"GUESS: {was}; $(MODEL_URI) is the source of the version in MLflow, which the server must be able to load"
    made.remarks.append(((*at, "args"), words_))


def _without(held: Object, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in held.items() if key not in defaults or value != defaults[key]}


# -- traffic ---------------------------------------------------------------------------------------------------------
def _refs(rule: Object) -> Sequence[Object]:
    refs: Sequence[Object] = rule.get("backendRefs") or ()
    return refs


def _traffic(made: Adoption, asked: Asked, leading: Sequence[tuple[Object, int]], name: str) -> dict[str, Any]:
    at: Path = ("spec", "traffic")
    if asked.http_route is not None:
        found = [(route, rule) for route, rule in leading if route["metadata"]["name"] == asked.http_route]
        ref: dict[str, Any] = {"name": asked.http_route}
        rule = found[0][0]["spec"]["rules"][found[0][1]] if found else {}
        if rule.get("name"):
            ref["rule"] = rule["name"]
        words = f"its owner labels it {GROUP}/name: {name} and names the Services {name}-a and {name}-b in one rule"
        made.remarks.append((at, words))
        return {"httpRoute": ref}
    if not leading and asked.gateway is None:
        raise NotAdoptable(
            "no HTTPRoute of the namespace leads to a Service of the Deployment: give --gateway [NAMESPACE/]NAME, or "
            "--http-route NAME"
        )
    gateway: dict[str, Any] = {}
    if asked.gateway is not None:
        namespace, gateway_name = asked.gateway
        gateway["parentRefs"] = [{"name": gateway_name, **({"namespace": namespace} if namespace else {})}]
    if leading:
        route, number = leading[0]
        spec = route["spec"]
        gateway.setdefault("parentRefs", [_parent(item) for item in spec.get("parentRefs") or ()])
        if spec.get("hostnames"):
            gateway["hostnames"] = list(spec["hostnames"])
        rule = spec["rules"][number]
        kept = {key: rule[key] for key in ("matches", "filters", "timeouts") if rule.get(key)}
        if kept.get("matches") == [{"path": {"type": "PathPrefix", "value": "/"}}]:
            del kept["matches"]
        if kept:
            gateway["rule"] = kept
        words = f"as HTTPRoute {route['metadata']['name']} has it"
        more = [item["metadata"]["name"] for item, _ in leading[1:]]
        more += ["its other rules"] if len(spec["rules"]) > 1 else []
        made.remarks.append((at, words + (f"; not taken over: {', '.join(more)}" if more else "")))
        if any(item.get("filters") for item in _refs(rule)) or rule.get("sessionPersistence"):
            made.remarks.append((at, "filters of single backends and session persistence are not taken over"))
    return {"gateway": gateway}


def _parent(ref: Object) -> dict[str, Any]:
    usual = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    return {key: value for key, value in ref.items() if usual.get(key) != value}


def _steps(
    made: Adoption,
    deployment: Object,
    services: Sequence[Object],
    leading: Sequence[tuple[Object, int]],
    asked: Asked,
    name: str,
) -> list[str]:
    """From the Deployment to the release, with both serving at the same time."""
    namespace = deployment["metadata"].get("namespace")
    where = f"kubectl -n {namespace}" if namespace else "kubectl"
    old = deployment["metadata"]["name"]
    wait = f"{where} wait modelrelease/{name} --for=condition=Ready --timeout=30m"
    behind = ", ".join(item["metadata"]["name"] for item in services) or "none"
    clean = f"{where} delete deployment/{old}    # and Service {behind}, when nobody names it any more"
    scaler = f"an HPA of the Deployment: let its scaleTargetRef name modelrelease.dev/v1alpha1 ModelRelease {name}"
    if asked.http_route is not None:
        return [
            f"{where} label httproute/{asked.http_route} modelrelease.dev/name={name}",
            f"in its rule, beside the present backend: {name}-a and {name}-b, port 80, each with weight 0",
            "kubectl apply -f release.yaml    # its pods start beside the present ones",
            f"{wait}    # it shares the traffic now",
            "take the former backend out of the rule: all traffic is the release's",
            f"when its last requests have ended: {clean}",
            scaler,
        ]
    if not leading:
        return [
            "kubectl apply -f release.yaml    # its pods start beside the present ones, with a route of their own",
            wait,
            f"lead the users to the Gateway; when the last requests on {old} have ended: {clean}",
            scaler,
        ]
    route = leading[0][0]["metadata"]["name"]
    return [
        f"{where} get httproute {route} -o yaml > former-route.yaml    # the way back, up to the last step",
        f"kubectl apply -f release.yaml    # its pods start; of two routes alike the older, {route}, goes on",
        wait,
        f"{where} delete httproute {route}    # the release's own route takes over at once",
        f"when the last requests on {old} have ended: {clean}",
        scaler,
    ]
