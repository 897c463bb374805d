"""A small inference server: one MLflow model behind HTTP.

Here live the routes, their metrics and the life cycle (load, warm up, serve, drain). What a model computes lives in the
model itself, which arrives from MLflow complete with its own code. Rule kept: a request that was accepted is answered,
also after SIGTERM; what the process cannot do shows in `/readyz` or in its exit code, never in a hanging request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

log = logging.getLogger("model_server")

MAX_INSTANCES = 1000
MAX_INTERVAL_MS = 60_000

# A series is born with its first request, as in most inference servers.
REQUESTS = Counter("http_requests", "Requests answered.", ["method", "handler", "code"])
DURATION = Histogram(
    "http_request_duration_seconds",
    "Time to the answer; for a stream, to its first item.",
    ["method", "handler"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge("http_requests_in_flight", "Requests being answered now.")

Instances = list[list[float | None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class State(Enum):
    """What `/readyz` reports; only SERVING is ready."""

    LOADING = "loading the model"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that differs between two servers."""

    model_name: str
    model_version: str
    """Reported in answers and in the header `x-model-version`."""
    model_uri: str
    """Any MLflow model URI: `models:/m-…`, `models:/name/3`, `runs:/…`."""
    http_port: int
    metrics_port: int
    """`/metrics` is here and on `http_port`."""
    drain_delay_s: float
    """After SIGTERM new requests are accepted for so long: endpoints and gateways need a moment to look elsewhere."""
    drain_timeout_s: float
    """Requests and streams in flight get so long to end; the pod's termination grace period usually ends first."""

    @staticmethod
    def from_environment(env: Mapping[str, str]) -> Settings:
        """The variables are the fields in upper case; raises KeyError or ValueError for a missing or malformed one."""
        return Settings(
            model_name=env["MODEL_NAME"],
            model_version=env.get("MODEL_VERSION", "unknown"),
            model_uri=env["MODEL_URI"],
            http_port=int(env.get("HTTP_PORT", "8080")),
            metrics_port=int(env.get("METRICS_PORT", "9090")),
            drain_delay_s=float(env.get("DRAIN_DELAY_S", "3")),
            drain_timeout_s=float(env.get("DRAIN_TIMEOUT_S", "600")),
        )


class BadRequest(Exception):
    """The client's fault; becomes a 400."""


class Model:
    """An MLflow model and the threads its predictions run in, so that a slow one never blocks the probes."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._loaded: Any = None
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="predict")

    async def load(self) -> None:
        """Fetch, load and warm up; raises whatever MLflow or the model raises."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._load)

    async def predict(self, instances: Instances) -> list[Any]:
        """One prediction an instance; raises BadRequest when the input is not what the model's signature says."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._predict, instances)

    def _load(self) -> None:
        # Imported here: the import takes seconds, and /healthz answers meanwhile.
        import mlflow.pyfunc

        started = time.perf_counter()
        loaded = mlflow.pyfunc.load_model(self._uri)
        ready = time.perf_counter()
        example = loaded.input_example
        if example is not None:
            loaded.predict(example)
        self._loaded = loaded
        log.info("loaded %s in %.2f s, warmed up in %.3f s", self._uri, ready - started, time.perf_counter() - ready)

    def _predict(self, instances: Instances) -> list[Any]:
        import numpy as np
        from mlflow.exceptions import MlflowException

        try:
            batch = np.asarray(instances, dtype=np.float64)  # null becomes NaN
        except (TypeError, ValueError) as error:
            raise BadRequest(f"instances must be a matrix of numbers: {error}") from None
        try:
            answer: list[Any] = np.asarray(self._loaded.predict(batch)).tolist()
        except MlflowException as error:  # the signature's own check; the model's own errors are of other types
            raise BadRequest(str(error)) from None
        return answer


class Server:
    """The routes of one served model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model = Model(settings.model_uri)
        self._state = State.LOADING

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; raises when the model cannot be loaded."""
        settings = self._settings
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        main = web.AppRunner(self._app(), access_log=None, shutdown_timeout=settings.drain_timeout_s)
        metrics = web.AppRunner(self._metrics_app(), access_log=None)
        await main.setup()
        await metrics.setup()
        await web.TCPSite(main, port=settings.http_port).start()
        await web.TCPSite(metrics, port=settings.metrics_port).start()
        loading = asyncio.create_task(self._model.load())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await loading
            self._state = State.SERVING
            log.info("serving %s version %s", settings.model_name, settings.model_version)
            await stopping
            self._state = State.DRAINING
            await asyncio.sleep(settings.drain_delay_s)
        await main.cleanup()
        await metrics.cleanup()
        log.info("drained")

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._measure])
        app.on_response_prepare.append(self._about_to_answer)
        app.router.add_post("/v1/models/{name}:predict", self._predict)
        app.router.add_post("/v1/models/{name}:stream", self._stream)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._expose)
        return app

    def _metrics_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._expose)
        return app

    async def _about_to_answer(self, request: web.Request, response: web.StreamResponse) -> None:
        """Runs just before the headers of any response are sent."""
        response.headers["x-model-version"] = self._settings.model_version
        if self._state is State.DRAINING:  # so that a gateway's kept connections end before the listener does
            response.headers["Connection"] = "close"
            response.force_close()
        if "started" in request:
            DURATION.labels(request.method, _route(request)).observe(time.perf_counter() - request["started"])

    @web.middleware
    async def _measure(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count the requests of the model's routes, and turn what goes wrong there into a status code.

        Probes and scrapes are left out: they would dilute the error rate of a server with little traffic.
        """
        if not _route(request).startswith("/v1/models/"):
            return await handler(request)
        request["started"] = time.perf_counter()
        code = 499  # as nginx calls a client that went away before its answer
        try:
            with IN_FLIGHT.track_inprogress():
                response = await self._answer(request, handler)
            code = request.get("failed_with", response.status)
            return response
        finally:
            REQUESTS.labels(request.method, _route(request), str(code)).inc()

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info["name"] != self._settings.model_name:
            return _error(404, f"no model {request.match_info['name']!r} here")
        if self._state is State.LOADING:
            return _error(503, self._state.value)
        try:
            return await handler(request)
        except BadRequest as refusal:
            return _error(400, str(refusal))
        except web.HTTPException as refusal:
            return _error(refusal.status, refusal.reason)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a model's code may raise anything, and the server outlives it
            return _error(500, _describe(error))

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        instances, _ = await _read(request)
        predictions = await self._model.predict(instances)
        return web.json_response({"predictions": predictions, "model_version": self._settings.model_version})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """One line of JSON an instance, then `{"done": true}`; a stream without that last line is broken."""
        instances, interval_ms = await _read(request)
        prediction = (await self._model.predict(instances[:1]))[0]  # before the headers, so it can still be a 500
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for index, instance in enumerate(instances):
            if index:
                await asyncio.sleep(interval_ms / 1000)
                try:
                    prediction = (await self._model.predict([instance]))[0]
                except Exception as error:  # noqa: BLE001 - as in _answer, but the status is sent: a line says it instead
                    request["failed_with"] = 500
                    await _write_line(response, {"error": _describe(error)})
                    return response
            line = {"index": index, "prediction": prediction, "model_version": self._settings.model_version}
            await _write_line(response, line)
        await _write_line(response, {"done": True})
        return response

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=f"{self._state.value}\n", status=200 if self._state is State.SERVING else 503)

    async def _expose(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _read(request: web.Request) -> tuple[Instances, float]:
    """(instances, interval_ms) of a valid body; raises BadRequest."""
    try:
        body = await request.json()
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    instances = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(instances, list) or not 1 <= len(instances) <= MAX_INSTANCES:
        raise BadRequest(f'the body must be {{"instances": [...]}} with 1 to {MAX_INSTANCES} instances')
    interval_ms = body.get("interval_ms", 0)
    if not isinstance(interval_ms, int | float) or not 0 <= interval_ms <= MAX_INTERVAL_MS:
        raise BadRequest(f"interval_ms must be a number from 0 to {MAX_INTERVAL_MS}")
    return instances, interval_ms


def _route(request: web.Request) -> str:
    """The route's template, or "" where none matches."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _describe(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    log.warning("prediction failed: %s", text)
    return text


async def _write_line(response: web.StreamResponse, line: dict[str, Any]) -> None:
    await response.write(json.dumps(line).encode() + b"\n")


def main() -> int:
    """Exit code 0 after a drain, 1 when the model cannot be served."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(Server(Settings.from_environment(os.environ)).run())
    except Exception as error:  # noqa: BLE001 - whatever stops the start becomes one line in the pod's log
        log.error("cannot serve %s: %s: %s", os.environ.get("MODEL_URI"), type(error).__name__, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
