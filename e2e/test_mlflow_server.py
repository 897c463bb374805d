"""The MLflow server that the tests and the demo stand on."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from e2e.mlflow_server import MlflowServer, MlflowServerError


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("mlflow", 200),
        ("mlflow.ml.svc:5000", 200),
        ("mlflow.ml.svc.cluster.local:5000", 200),
        ("172.31.99.1:5000", 200),
        ("10.96.3.4", 200),
        ("ml.example", 403),
    ],
)
def test_it_answers_to_the_names_that_it_has_in_a_cluster(mlflow_server: MlflowServer, host: str, status: int) -> None:
    url = f"{mlflow_server.url}/api/2.0/mlflow/registered-models/search"
    request = urllib.request.Request(url, headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            seen = response.status
    except urllib.error.HTTPError as error:
        seen = error.code

    assert seen == status


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = MlflowServer(tmp_path / "state", port=other.getsockname()[1])

        with pytest.raises(MlflowServerError, match=r"(?s)MLflow on http://127\.0\.0\.1:\d+ .*server\.log:\n.*in use"):
            server.start(timeout_s=60)

    left = subprocess.run(["pgrep", "-f", f"{tmp_path}/state"], capture_output=True, text=True, check=False)
    assert left.stdout == ""
