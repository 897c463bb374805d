"""vLLM's OpenAI-compatible server with its V1 engine.

Engine metrics are those of vllm/v1/metrics/loggers.py, labelled model_name and engine. There is no counter of errors
among them: `vllm:request_success_total` knows how a request ended, and disconnected clients count as `abort`. Errors
therefore come from the HTTP layer, which prometheus-fastapi-instrumentator counts by handler, method and class of
status. Time per output token is taken from the histogram with one observation a request, since
`vllm:inter_token_latency_seconds` has one a token, and tokens of one answer are anything but independent.
"""

from __future__ import annotations

from datetime import timedelta

from modelrelease.api.checks import Check, ErrorRateCheck, LatencyCheck

from .metrics import Matcher, Preset, Selector

# Inference is POSTed; models, health and metrics are read.
_INFERENCE = (
    Matcher("method", "=", "POST"),
    Matcher("handler", "=~", "/v1/.+|/v2/.+|/generate|/pooling|/score|/rerank|/classify|/inference/.+|/invocations"),
)
_RUNNING, _WAITING = Selector("vllm:num_requests_running"), Selector("vllm:num_requests_waiting")

VLLM = Preset(
    name="vllm",
    requests=(Selector("http_requests_total", _INFERENCE),),
    errors=(Selector("http_requests_total", (*_INFERENCE, Matcher("status", "=~", "5.."))),),
    client_errors=(Selector("http_requests_total", (*_INFERENCE, Matcher("status", "=~", "4.."))),),
    histograms={
        "requestDuration": Selector("vllm:e2e_request_latency_seconds"),
        "timeToFirstToken": Selector("vllm:time_to_first_token_seconds"),
        "timePerOutputToken": Selector("vllm:request_time_per_output_token_seconds"),
        "queueTime": Selector("vllm:request_queue_time_seconds"),
    },
    gauges={
        "kvCacheUsage": Selector("vllm:kv_cache_usage_perc"),
        "waitingRequests": _WAITING,
        "runningRequests": _RUNNING,
    },
    in_flight=(_RUNNING, _WAITING),
    progress=(Selector("vllm:prompt_tokens_total"), Selector("vllm:generation_tokens_total")),
    http_port=8000,
    metrics_port=8000,
    warm_up=timedelta(seconds=30),
    drain_timeout=timedelta(minutes=10),
    checks=(
        Check(name="errors", error_rate=ErrorRateCheck()),
        Check(name="client-errors", error_rate=ErrorRateCheck(of="client")),
        Check(
            name="ttft",
            latency=LatencyCheck(metric="timeToFirstToken", slower_than="1s", also_slower_than=("500ms", "2500ms")),
        ),
        Check(
            name="tpot",
            latency=LatencyCheck(metric="timePerOutputToken", slower_than="100ms", also_slower_than=("50ms", "200ms")),
        ),
    ),
    cannot_see="errors after a stream has begun (its status was 200), and answers that are wrong or empty",
)
