"""SGLang's server, started with --enable-metrics.

Metrics are those of sglang/srt/metrics/collector.py (labels model_name, engine_type and ranks) and, for HTTP, those of
the middleware in sglang/srt/utils/common.py: `sglang:http_responses_total` by endpoint, status_code and method, with
series that are born at the first answer of their kind. It exports no time per output token with one observation a
request: `sglang:inter_token_latency_seconds` has one a token, so there is no such latency here.
"""

from __future__ import annotations

from datetime import timedelta

from modelrelease.api.checks import Check, ErrorRateCheck, LatencyCheck

from .metrics import Matcher, Preset, Selector

# Inference is POSTed; health checks that generate a token are read. Weight updates and profiling are nobody's requests.
_INFERENCE = (
    Matcher("method", "=", "POST"),
    Matcher("endpoint", "=~", "/v1/.+|/generate|/encode|/classify|/api/.+|/invocations"),
)
_RUNNING, _WAITING = Selector("sglang:num_running_reqs"), Selector("sglang:num_queue_reqs")

SGLANG = Preset(
    name="sglang",
    requests=(Selector("sglang:http_responses_total", _INFERENCE),),
    errors=(Selector("sglang:http_responses_total", (*_INFERENCE, Matcher("status_code", "=~", "5.."))),),
    client_errors=(Selector("sglang:http_responses_total", (*_INFERENCE, Matcher("status_code", "=~", "4.."))),),
    histograms={
        "requestDuration": Selector("sglang:e2e_request_latency_seconds"),
        "timeToFirstToken": Selector("sglang:time_to_first_token_seconds"),
        "queueTime": Selector("sglang:queue_time_seconds"),
    },
    gauges={"kvCacheUsage": Selector("sglang:token_usage"), "waitingRequests": _WAITING, "runningRequests": _RUNNING},
    in_flight=(_RUNNING, _WAITING),
    progress=(Selector("sglang:prompt_tokens_total"), Selector("sglang:generation_tokens_total")),
    http_port=30000,
    metrics_port=30000,
    warm_up=timedelta(seconds=30),
    drain_timeout=timedelta(minutes=10),
    checks=(
        Check(name="errors", error_rate=ErrorRateCheck()),
        Check(name="client-errors", error_rate=ErrorRateCheck(of="client")),
        Check(
            name="ttft",
            latency=LatencyCheck(metric="timeToFirstToken", slower_than="1s", also_slower_than=("400ms", "2s")),
        ),
    ),
    cannot_see="errors after a stream has begun (its status was 200), time per output token by request, and answers "
    "that are wrong or empty",
)
