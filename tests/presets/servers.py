"""Model servers as Prometheus sees them: the expositions of vLLM, SGLang, Triton and two usual HTTP servers.

Those of Python are written by prometheus_client, as the servers themselves do it, `_created` series included; those of
Go and C++ line by line. Each has the series that surround what a preset reads: other handlers, other reasons, sizes.
`answer` lets a server have finished one user's request, `noise` all that is no user's request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

TTFT = (
    .001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)  # fmt: skip
TPOT = (.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)  # fmt: skip
E2E = (.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)  # fmt: skip
SGLANG_TTFT = (.1, .2, .4, .6, .8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)  # fmt: skip
REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")


class Server(Protocol):
    """What a test may let a server do."""

    def answer(self, status: int = 200, *, first_s: float = 0.1, token_s: float = 0.02, whole_s: float = 0.5) -> None:
        """One request has been finished: its first token came after first_s, the others every token_s."""

    def noise(self) -> None:
        """Probes, scrapes, lists of models, and requests that clients gave up."""

    def load(self, running: int, waiting: int, cache: float) -> None:
        """So many requests are in flight now."""

    def text(self) -> str:
        """The exposition."""


class Instrumented:
    """What prometheus-fastapi-instrumentator counts for any FastAPI server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests_total", "Total number of requests by method, status and handler.",
            ["method", "status", "handler"], registry=self.registry,
        )  # fmt: skip
        self._sizes = Summary(
            "http_response_size_bytes", "Content length of outgoing responses by handler.", ["handler"],
            registry=self.registry,
        )  # fmt: skip
        self._fine = Histogram(
            "http_request_duration_highr_seconds", "Latency with many buckets but no API specific labels.",
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "http_request_duration_seconds", "Latency with only few buckets by handler.", ["method", "handler"],
            buckets=(0.1, 0.5, 1), registry=self.registry,
        )  # fmt: skip

    def http(self, method: str, handler: str, status: int, seconds: float) -> None:
        """One answer."""
        self._requests.labels(method, f"{status // 100}xx", handler).inc()
        self._sizes.labels(handler).observe(512)
        self._fine.observe(seconds)
        self._seconds.labels(method, handler).observe(seconds)

    def text(self) -> str:
        """The exposition."""
        return generate_latest(self.registry).decode()


class FastApi(Instrumented):
    """A model server of one's own in Python."""

    def answer(self, status: int = 200, *, first_s: float = 0.1, token_s: float = 0.02, whole_s: float = 0.5) -> None:
        """One prediction."""
        self.http("POST", "/predict", status, whole_s)

    def noise(self) -> None:
        """Probes and scrapes."""
        for handler in ("/metrics", "/health", "/readyz"):
            self.http("GET", handler, 200, 0.002)
        self.http("GET", "/health", 503, 0.002)

    def load(self, running: int, waiting: int, cache: float) -> None:
        """It does not tell."""


@dataclass
class Go:
    """A model server of one's own in Go, instrumented by promhttp: the status is a label `code`."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    running: int = 0

    def answer(self, status: int = 200, *, first_s: float = 0.1, token_s: float = 0.02, whole_s: float = 0.5) -> None:
        """One prediction."""
        self._count("predict", status, whole_s)

    def noise(self) -> None:
        """Probes and scrapes."""
        for handler in ("metrics", "healthz"):
            self._count(handler, 500, 0.001)

    def load(self, running: int, waiting: int, cache: float) -> None:
        """It knows what it works on."""
        self.running = running

    def text(self) -> str:
        """The exposition."""
        lines = ["# HELP http_requests_total Requests by status.", "# TYPE http_requests_total counter"]
        for (handler, code), count in self.requests.items():
            lines.append(f'http_requests_total{{code="{code}",handler="{handler}",method="post"}} {count}')
        lines += ["# TYPE http_requests_in_flight gauge", f"http_requests_in_flight {self.running}"]
        lines.append("# TYPE http_request_duration_seconds histogram")
        for handler, seconds in self.seconds.items():
            lines += histogram("http_request_duration_seconds", f'handler="{handler}"', (0.1, 0.25, 1, 2.5), seconds)
        lines += ["# TYPE go_goroutines gauge", "go_goroutines 12"]
        return "\n".join(lines) + "\n"

    def _count(self, handler: str, status: int, seconds: float) -> None:
        key = (handler, str(status))
        self.requests[key] = self.requests.get(key, 0) + 1
        self.seconds.setdefault(handler, []).append(seconds)


class Vllm(Instrumented):
    """vLLM's V1 engine behind its OpenAI-compatible server."""

    labels = ("meta-llama/Llama-3.1-8B-Instruct", "0")

    def __init__(self) -> None:
        super().__init__()
        self.running = self._gauge("vllm:num_requests_running", "Number of requests in model execution batches.")
        self.waiting = self._gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.")
        self.cache = self._gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self._counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.")
        self.prompt = self._counter("vllm:prompt_tokens", "Number of prefill tokens processed.")
        self.generation = self._counter("vllm:generation_tokens", "Number of generation tokens processed.")
        self.success = Counter(
            "vllm:request_success", "Count of successfully processed requests.",
            ["model_name", "engine", "finished_reason"], registry=self.registry,
        )  # fmt: skip
        for reason in ("stop", "length", "abort", "error", "repetition"):
            self.success.labels(*self.labels, reason)
        self.ttft = self._histogram("vllm:time_to_first_token_seconds", TTFT)
        self.itl = self._histogram("vllm:inter_token_latency_seconds", TPOT)
        self.tpot = self._histogram("vllm:request_time_per_output_token_seconds", TPOT)
        self.e2e = self._histogram("vllm:e2e_request_latency_seconds", E2E)
        self.queue = self._histogram("vllm:request_queue_time_seconds", E2E)

    def answer(self, status: int = 200, *, first_s: float = 0.1, token_s: float = 0.02, whole_s: float = 0.5) -> None:
        """One completion of 20 tokens; what failed never came to the engine."""
        self.http("POST", "/v1/chat/completions", status, whole_s)
        if status != 200:
            return
        self.ttft.observe(first_s)
        self.tpot.observe(token_s)
        for _ in range(19):
            self.itl.observe(token_s)
        self.e2e.observe(whole_s)
        self.queue.observe(first_s / 2)
        self.prompt.inc(100)
        self.generation.inc(20)
        self.success.labels(*self.labels, "stop").inc()

    def noise(self) -> None:
        """Lists of models, unknown paths, clients that went away."""
        self.http("GET", "/v1/models", 200, 0.002)
        self.http("GET", "none", 404, 0.002)
        self.http("POST", "/tokenize", 500, 0.002)
        self.success.labels(*self.labels, "abort").inc()

    def load(self, running: int, waiting: int, cache: float) -> None:
        """Gauges of the scheduler."""
        self.running.set(running)
        self.waiting.set(waiting)
        self.cache.set(cache)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(name, words, ["model_name", "engine"], registry=self.registry).labels(*self.labels)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(name, words, ["model_name", "engine"], registry=self.registry).labels(*self.labels)

    def _histogram(self, name: str, bounds: Sequence[float]) -> Histogram:
        made = Histogram(
            name, f"Histogram of {name}.", ["model_name", "engine"], buckets=bounds, registry=self.registry
        )
        return made.labels(*self.labels)


class Sglang:
    """SGLang with --enable-metrics; HTTP series are born with their first answer."""

    labels = ("Qwen/Qwen3-8B", "unified", "0", "0", "0")

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http = Counter(
            "sglang:http_responses", "Total number of HTTP responses by endpoint and status code",
            ["endpoint", "status_code", "method"], registry=self.registry,
        )  # fmt: skip
        self._asked = Counter(
            "sglang:http_requests", "Total number of HTTP requests by endpoint and method",
            ["endpoint", "method"], registry=self.registry,
        )  # fmt: skip
        self.running = self._gauge("sglang:num_running_reqs", "The number of running requests.")
        self.waiting = self._gauge("sglang:num_queue_reqs", "The number of requests in the waiting queue.")
        self.cache = self._gauge("sglang:token_usage", "The token usage.")
        names = ["model_name", "engine_type"]
        self.prompt = Counter("sglang:prompt_tokens", "Prefill tokens.", names, registry=self.registry)
        self.generation = Counter("sglang:generation_tokens", "Generation tokens.", names, registry=self.registry)
        self.ttft = self._histogram("sglang:time_to_first_token_seconds", SGLANG_TTFT, "is_streaming")
        self.itl = self._histogram("sglang:inter_token_latency_seconds", TPOT)
        self.e2e = self._histogram("sglang:e2e_request_latency_seconds", (*SGLANG_TTFT, 600, 1200), "is_streaming")
        self.queue = self._histogram("sglang:queue_time_seconds", (0, *SGLANG_TTFT))

    def answer(self, status: int = 200, *, first_s: float = 0.1, token_s: float = 0.02, whole_s: float = 0.5) -> None:
        """One completion of 20 tokens, every third as a stream."""
        self._asked.labels("/v1/chat/completions", "POST").inc()
        self._http.labels("/v1/chat/completions", str(status), "POST").inc()
        if status != 200:
            return
        of = self.labels[:2]
        streaming = str(int(first_s * 1000) % 3 == 0).lower()
        self.ttft.labels(*of, streaming).observe(first_s)
        self.e2e.labels(*of, streaming).observe(whole_s)
        self.queue.labels(*of).observe(first_s / 2)
        for _ in range(19):
            self.itl.labels(*of).observe(token_s)
        self.prompt.labels(*of).inc(100)
        self.generation.labels(*of).inc(20)

    def noise(self) -> None:
        """Health checks, scrapes, and what operators of the server ask for."""
        for endpoint in ("/health_generate", "/metrics", "/v1/models", "/get_server_info"):
            self._http.labels(endpoint, "200", "GET").inc()
        self._http.labels("/health_generate", "503", "GET").inc()
        self._http.labels("/flush_cache", "500", "POST").inc()

    def load(self, running: int, waiting: int, cache: float) -> None:
        """Gauges of the scheduler."""
        self.running.set(running)
        self.waiting.set(waiting)
        self.cache.set(cache)

    def text(self) -> str:
        """The exposition."""
        return generate_latest(self.registry).decode()

    def _gauge(self, name: str, words: str) -> Gauge:
        names = ["model_name", "engine_type", "tp_rank", "pp_rank", "moe_ep_rank"]
        return Gauge(name, words, names, registry=self.registry).labels(*self.labels)

    def _histogram(self, name: str, bounds: Sequence[float], *more: str) -> Histogram:
        names = ["model_name", "engine_type", *more]
        return Histogram(name, f"Histogram of {name}.", names, buckets=bounds, registry=self.registry)


@dataclass
class Triton:
    """Triton with one model and its histogram of first responses switched on."""

    success: int = 0
    failure: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0)
    )
    first_ms: list[float] = field(default_factory=list)
    pending: int = 0

    def answer(self, status: int = 200, *, first_s: float = 0.1, token_s: float = 0.02, whole_s: float = 0.5) -> None:
        """One inference; where it fails it is the back end that failed."""
        if status >= 500:
            self.failure["BACKEND"] += 1
        elif status == 200:
            self.success += 1
            self.first_ms.append(first_s * 1000)

    def noise(self) -> None:
        """Clients that went away."""
        self.failure["CANCELED"] += 1

    def load(self, running: int, waiting: int, cache: float) -> None:
        """It knows what waits."""
        self.pending = waiting

    def text(self) -> str:
        """The exposition, as prometheus-cpp writes it."""
        model = 'model="ranker",version="3"'
        lines = [
            "# HELP nv_inference_request_success Number of successful inference requests, all batch sizes",
            "# TYPE nv_inference_request_success counter",
            f"nv_inference_request_success{{{model}}} {self.success}",
            "# HELP nv_inference_request_failure Number of failed inference requests, all batch sizes",
            "# TYPE nv_inference_request_failure counter",
        ]
        for reason, count in self.failure.items():
            lines.append(f'nv_inference_request_failure{{{model},reason="{reason}"}} {count}')
        lines += [
            "# TYPE nv_inference_count counter",
            f"nv_inference_count{{{model}}} {self.success * 4}",
            "# TYPE nv_inference_exec_count counter",
            f"nv_inference_exec_count{{{model}}} {self.success}",
            "# TYPE nv_inference_request_duration_us counter",
            f"nv_inference_request_duration_us{{{model}}} {self.success * 5000}",
            "# TYPE nv_inference_pending_request_count gauge",
            f"nv_inference_pending_request_count{{{model}}} {self.pending}",
            "# TYPE nv_gpu_utilization gauge",
            'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5',
            "# TYPE nv_inference_first_response_histogram_ms histogram",
            *histogram("nv_inference_first_response_histogram_ms", model, (100, 500, 2000, 5000), self.first_ms),
        ]
        return "\n".join(lines) + "\n"


def histogram(name: str, labels: str, bounds: Sequence[float], values: Sequence[float]) -> list[str]:
    """The lines of one histogram."""
    lines = [f'{name}_bucket{{{labels},le="{bound}"}} {sum(value <= bound for value in values)}' for bound in bounds]
    lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {len(values)}')
    return [*lines, f"{name}_sum{{{labels}}} {sum(values)}", f"{name}_count{{{labels}}} {len(values)}"]
