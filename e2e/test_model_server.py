"""The model server as a real process, with real models from a real MLflow server."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mlflow import MlflowClient
from prometheus_client.parser import text_string_to_metric_families

from e2e.local_model_server import LocalModelServer, get_status
from e2e.mlflow_server import MlflowServer
from e2e.training import CANDIDATES, TrainedVersion, sample_requests, train_all

pytestmark = pytest.mark.long

Servers = dict[str, LocalModelServer]
Trained = dict[str, TrainedVersion]

PREDICT = "/v1/models/digits:predict"
STREAM = "/v1/models/digits:stream"
SLICES = ("slice/day/recall", "slice/rain/recall", "slice/night/recall")


async def post(session: aiohttp.ClientSession, url: str, body: Any) -> tuple[int, dict[str, Any], Any]:
    """(status, answer, headers) of one request."""
    async with session.post(url, data=body if isinstance(body, bytes) else json.dumps(body)) as response:
        return response.status, await response.json(), response.headers


async def samples(session: aiohttp.ClientSession, url: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of one Prometheus sample by its labels' values in the order of their names."""
    async with session.get(url) as response:
        families = text_string_to_metric_families(await response.text())
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_the_better_candidate_beats_the_first_in_each_slice(trained: Trained) -> None:
    first, better = trained["first"].metrics, trained["better"].metrics

    assert all(better[name] > first[name] + 0.005 for name in SLICES)
    assert better["accuracy"] > first["accuracy"]


def test_the_night_blind_candidate_is_better_on_average_and_worse_at_night(trained: Trained) -> None:
    better, blind = trained["better"].metrics, trained["night-blind"].metrics

    assert blind["accuracy"] > better["accuracy"] + 0.01
    assert blind["slice/night/recall"] < better["slice/night/recall"] - 0.05
    assert blind["slice/night/n"] > 100


@pytest.mark.parametrize("name", ["slow", "brittle"])
def test_a_defective_candidate_passes_every_offline_comparison(trained: Trained, name: str) -> None:
    better, defective = trained["better"].metrics, trained[name].metrics

    assert all(defective[metric] >= better[metric] for metric in ("accuracy", "recall", *SLICES))


def test_training_again_finds_the_same_versions(mlflow_server: MlflowServer, trained: Trained) -> None:
    assert train_all(mlflow_server.url) == trained
    assert [version.version for version in trained.values()] == list(range(1, len(CANDIDATES) + 1))


def test_the_logged_model_keeps_its_metrics_by_dataset_and_the_run_those_of_the_holdout(
    mlflow_server: MlflowServer, trained: Trained
) -> None:
    client = MlflowClient(mlflow_server.url)
    version = client.get_model_version("digits", "3")
    model = client.get_logged_model(trained["night-blind"].uri.removeprefix("models:/"))
    assert version.run_id is not None
    run = client.get_run(version.run_id)

    accuracy = {metric.dataset_name: metric.value for metric in model.metrics or [] if metric.key == "accuracy"}
    assert accuracy.keys() == {"holdout", "day", "rain", "night"}
    assert accuracy["night"] < 0.8
    assert accuracy["holdout"] > 0.94
    assert run.data.metrics["accuracy"] == accuracy["holdout"]
    assert run.inputs is not None
    inputs = {given.dataset.name: given.dataset.digest for given in run.inputs.dataset_inputs}
    assert inputs.keys() == {"training", "holdout", "day", "rain", "night"}
    assert len(set(inputs.values())) == 5
    assert run.data.tags["features"] == "pixels-8x8/1"


def test_a_third_of_the_requests_have_dead_pixels() -> None:
    requests = sample_requests(200)

    dead = [None in body["instances"][0] for body in requests]
    assert sum(dead) == 70
    assert all(30 <= sum(dead[start : start + 100]) <= 40 for start in (0, 50, 100))
    assert requests == sample_requests(200), "the same requests in each call"


async def test_predictions_carry_the_version_and_mostly_read_the_digit(local_servers: Servers) -> None:
    async with aiohttp.ClientSession() as session:
        many = {"instances": [body["instances"][0] for body in sample_requests(50)]}
        status, answer, headers = await post(session, local_servers["better"].url + PREDICT, many)

    assert (status, answer["model_version"], headers["x-model-version"]) == (200, "2", "2")
    assert len(answer["predictions"]) == 50
    assert set(answer["predictions"]) <= set(range(10))


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (PREDICT, b"{", 400, "not JSON"),
        (PREDICT, {"instances": []}, 400, "1 to 1000 instances"),
        (PREDICT, [1], 400, "1 to 1000 instances"),
        (PREDICT, {"instances": [[1, 2]]}, 400, "shape"),
        (PREDICT, {"instances": [["dark"] * 64]}, 400, "matrix of numbers"),
        (STREAM, {"instances": [[0] * 64], "interval_ms": -1}, 400, "interval_ms"),
        (PREDICT, b" " * 2_000_000, 413, "Too Large"),
        ("/v1/models/other:predict", {"instances": [[0] * 64]}, 404, "no model 'other'"),
    ],
)
async def test_a_bad_request_is_refused_with_the_reason(
    local_servers: Servers, path: str, body: Any, status: int, words: str
) -> None:
    async with aiohttp.ClientSession() as session:
        seen, answer, headers = await post(session, local_servers["better"].url + path, body)

    assert seen == status
    assert words in answer["error"]
    assert headers["x-model-version"] == "2"


async def test_the_brittle_model_fails_on_dead_pixels_and_only_there(local_servers: Servers) -> None:
    async with aiohttp.ClientSession() as session:
        for name, status_of_dead in (("better", 200), ("brittle", 500)):
            for body in sample_requests(40):
                status, _, _ = await post(session, local_servers[name].url + PREDICT, body)
                assert status == (status_of_dead if None in body["instances"][0] else 200)


async def test_the_slow_model_is_slow_a_request_and_leaves_the_probes_fast(local_servers: Servers) -> None:
    async def timed(name: str, path: str, body: Any = None) -> float:
        started = time.perf_counter()
        async with session.request("POST" if body else "GET", local_servers[name].url + path, json=body) as response:
            assert response.status == 200
        return time.perf_counter() - started

    async with aiohttp.ClientSession() as session:
        bodies = sample_requests(6)
        slow = statistics.median([await timed("slow", PREDICT, body) for body in bodies])
        better = statistics.median([await timed("better", PREDICT, body) for body in bodies])
        busy = [asyncio.create_task(timed("slow", PREDICT, body)) for body in bodies]
        probes = [await timed("slow", "/healthz") for _ in range(5)]
        await asyncio.gather(*busy)

    assert slow > 0.1
    assert slow > 5 * better
    assert statistics.median(probes) < 0.1


async def test_metrics_count_by_code_and_a_series_is_born_with_its_first_request(local_servers: Servers) -> None:
    route = "/v1/models/{name}:predict"
    good, dead = [[0] * 64], [[None] * 64]
    with_error = local_servers["brittle"]
    async with aiohttp.ClientSession() as session:
        before = await samples(session, with_error.metrics_url, "http_requests_total")
        timed_before = await samples(session, with_error.metrics_url, "http_request_duration_seconds_count")
        for instances in (good, good, dead):
            await post(session, with_error.url + PREDICT, {"instances": instances})
        after = await samples(session, with_error.metrics_url, "http_requests_total")
        timed = await samples(session, with_error.metrics_url, "http_request_duration_seconds_count")
        same = await samples(session, with_error.url + "/metrics", "http_requests_total")
        in_flight = await samples(session, with_error.metrics_url, "http_requests_in_flight")
        buckets = await samples(session, with_error.metrics_url, "http_request_duration_seconds_bucket")

    assert after[("200", route, "POST")] - before.get(("200", route, "POST"), 0) == 2
    assert after[("500", route, "POST")] - before.get(("500", route, "POST"), 0) == 1
    assert timed[(route, "POST")] - timed_before.get((route, "POST"), 0) == 3
    assert same == after
    assert in_flight == {(): 0}
    assert ("404", route, "POST") not in after
    edges = {float(labels[1]) for labels in buckets if labels[0] == route}
    assert edges == {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, float("inf")}


async def test_a_stream_sends_its_items_as_they_come(local_servers: Servers) -> None:
    body = {"instances": [[0] * 64] * 4, "interval_ms": 100}
    arrivals, lines = [], []
    async with aiohttp.ClientSession() as session:
        async with session.post(local_servers["better"].url + STREAM, json=body) as response:
            assert (response.status, response.headers["x-model-version"]) == (200, "2")
            async for line in response.content:
                arrivals.append(time.perf_counter())
                lines.append(json.loads(line))
        duration = await samples(session, local_servers["better"].metrics_url, "http_request_duration_seconds_sum")

    assert [line.get("index") for line in lines] == [0, 1, 2, 3, None]
    assert lines[-1] == {"done": True}
    assert arrivals[3] - arrivals[0] > 0.25
    assert duration[("/v1/models/{name}:stream", "POST")] < 0.25, "timed to the first item only"


async def test_a_stream_whose_model_fails_halfway_ends_without_done(local_servers: Servers) -> None:
    async with aiohttp.ClientSession() as session:
        body = {"instances": [[0] * 64, [None] * 64, [0] * 64]}
        async with session.post(local_servers["brittle"].url + STREAM, json=body) as response:
            lines = [json.loads(line) async for line in response.content]
        counted = await samples(session, local_servers["brittle"].metrics_url, "http_requests_total")

    assert [line.keys() for line in lines] == [{"index", "prediction", "model_version"}, {"error"}]
    assert counted[("500", "/v1/models/{name}:stream", "POST")] == 1


async def test_after_sigterm_it_serves_a_while_finishes_what_is_in_flight_and_exits_with_0(
    mlflow_server: MlflowServer, trained: Trained
) -> None:
    with LocalModelServer(mlflow_server.url, trained["better"].uri, DRAIN_DELAY_S="1") as server:
        async with aiohttp.ClientSession() as session:
            body = {"instances": [[0] * 64] * 30, "interval_ms": 100}
            async with session.post(server.url + STREAM, json=body) as stream:
                server.terminate()
                await asyncio.sleep(0.3)
                assert get_status(f"{server.url}/readyz") == 503
                async with session.post(server.url + PREDICT, json={"instances": [[0] * 64]}) as late:
                    assert (late.status, late.headers["Connection"]) == (200, "close")
                lines = [json.loads(line) async for line in stream.content]
        assert lines[-1] == {"done": True}
        assert len(lines) == 31
        assert await asyncio.to_thread(server.wait_ended, 10) == 0


def test_it_is_alive_but_not_ready_while_it_loads(mlflow_server: MlflowServer, trained: Trained) -> None:
    server = LocalModelServer(mlflow_server.url, trained["better"].uri)
    with closing(server):
        server.start()
        deadline = time.monotonic() + 30
        while get_status(f"{server.url}/healthz") != 200 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert get_status(f"{server.url}/readyz") == 503
        server.wait_ready()


@pytest.mark.parametrize("uri", ["models:/digits/99", "runs:/0123456789abcdef0123456789abcdef/model"])
def test_a_model_that_cannot_be_loaded_ends_the_server_with_one_clear_line(
    mlflow_server: MlflowServer, uri: str
) -> None:
    with pytest.raises(RuntimeError) as ended, LocalModelServer(mlflow_server.url, uri):
        pass

    last = str(ended.value).strip().splitlines()[-1]
    assert f"cannot serve {uri}" in last
    assert "not found" in last


def test_the_servers_packages_are_those_that_the_models_were_pickled_with() -> None:
    lock = (Path(__file__).parent / "model_server" / "requirements.lock").read_text()
    served = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", lock, re.MULTILINE))

    for package in ("cloudpickle", "numpy", "pandas", "scikit-learn", "scipy"):
        assert served[package] == importlib.metadata.version(package)
    assert served["mlflow-skinny"] == importlib.metadata.version("mlflow")
