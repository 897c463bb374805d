"""NVIDIA Triton Inference Server.

Metrics are those of its metrics documentation (docs/user_guide/metrics.md): counters by model and version, failures by
reason (REJECTED, CANCELED, BACKEND, OTHER). Latency is exported as sums, of which only a mean could be had; the
histogram of the first response, in milliseconds, is there with --metrics-config histogram_latencies=true only.
"""

from __future__ import annotations

from datetime import timedelta

from modelrelease.api.checks import Check, ErrorRateCheck

from .metrics import Matcher, Preset, Selector

# A client that went away is no failure of the server, and no finished request.
_FAILED = Selector("nv_inference_request_failure", (Matcher("reason", "!=", "CANCELED"),))
_PENDING = Selector("nv_inference_pending_request_count")

TRITON = Preset(
    name="triton",
    requests=(Selector("nv_inference_request_success"), _FAILED),
    errors=(_FAILED,),
    histograms={"timeToFirstToken": Selector("nv_inference_first_response_histogram_ms", unit_s=0.001)},
    gauges={"waitingRequests": _PENDING},
    in_flight=(_PENDING,),
    progress=(Selector("nv_inference_count"),),
    http_port=8000,
    metrics_port=8002,
    warm_up=timedelta(seconds=10),
    drain_timeout=timedelta(seconds=60),
    checks=(Check(name="errors", error_rate=ErrorRateCheck()),),
    cannot_see="errors that Python back ends answer with (they count as success), requests for models that it does not "
    "know, and how requests spread around the mean latency",
)
