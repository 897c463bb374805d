"""The ports of a Deployment: server-side apply refuses a number that stands there twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import ModelReleaseStatus, StableStatus
from modelrelease.core.render import deployment, render
from modelrelease.core.revision import Revision, desired
from tests.api.builders import spec, workload


def revision(given: list[dict[str, Any]], **fields: Any) -> Revision:
    asked = workload(**fields)
    asked["template"]["spec"]["containers"][0]["ports"] = given
    return desired("churn", ModelReleaseSpec.model_validate(spec(workload=asked)), None, "7")


@pytest.mark.parametrize(
    ("given", "fields", "expected"),
    [
        pytest.param([], {}, {"metrics": 8080}, id="one number for both gets one name, that of the metrics"),
        pytest.param(
            [], {"ports": {"http": 80, "metrics": 90}}, {"metrics": 90, "http": 80}, id="two numbers, two names"
        ),
        pytest.param([{"containerPort": 8080}], {}, {"metrics": 8080}, id="a port without a name gets one"),
        pytest.param(
            [{"containerPort": 8080, "name": "web"}], {}, {"web": 8080}, id="a named port is left alone: probes use it"
        ),
        pytest.param(
            [{"containerPort": 8080, "protocol": "UDP", "name": "quic"}],
            {},
            {"quic": 8080, "metrics": 8080},
            id="another protocol is another port",
        ),
    ],
)
def test_ports(given: list[dict[str, Any]], fields: dict[str, Any], expected: dict[str, int]) -> None:
    asked = revision(given, **fields)
    [container] = deployment(asked, 1).body["spec"]["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == expected
    numbers = [(port["containerPort"], port.get("protocol", "TCP")) for port in container["ports"]]
    assert len(numbers) == len(set(numbers))


def test_the_monitor_looks_for_the_port_by_the_name_that_it_has() -> None:
    asked = revision([{"containerPort": 8080, "name": "web"}])
    stable = StableStatus(
        revision=asked.revision, rules=asked.rules, version="7", slot="a", promoted_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    children = render(None, ModelReleaseStatus(stable=stable), {asked.key: asked}, "churn")
    [monitor] = [child for child in children if child.kind == "PodMonitor"]
    assert monitor.body["spec"]["podMetricsEndpoints"] == [{"port": "web"}]
