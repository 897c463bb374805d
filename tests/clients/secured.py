"""A real Prometheus and a real MLflow server that speak TLS, as processes of the test's own."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster.binaries import ensure
from e2e.mlflow_server import MlflowServer
from tests.clients.certificates import Authority, Pair


@contextlib.contextmanager
def secured_prometheus(directory: Path, authority: Authority, *, users: dict[str, str] | None = None) -> Iterator[str]:
    """A Prometheus that wants a client certificate of this authority. users: names with bcrypt hashes, if any."""
    pair = authority.issue("prometheus")
    tls = {"cert_file": str(pair.certificate), "key_file": str(pair.key)}
    tls |= {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": str(authority.ca)}
    web = directory / "web.yml"
    web.write_text(json.dumps({"tls_server_config": tls, "basic_auth_users": users or {}}))
    (directory / "prometheus.yml").write_text("{}")
    port = _free_port()
    log = directory / "prometheus.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                str(ensure(["prometheus"]).path("prometheus")),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.config.file={web}",
            ],
            stdout=out,
            stderr=out,
            cwd=directory,
        )
    try:
        _wait(port, process, log)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class SecuredMlflow(MlflowServer):
    """An MLflow server that wants a client certificate of this authority."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        super().__init__(directory)
        self._authority = authority
        self._own: Pair = authority.issue("mlflow")
        self._probe: Pair = authority.issue("probe")

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")

    def argv(self) -> list[str]:
        own = f"--ssl-certfile {self._own.certificate} --ssl-keyfile {self._own.key}"
        return [*super().argv(), "--uvicorn-opts", f"{own} --ssl-ca-certs {self._authority.ca} --ssl-cert-reqs 2"]

    def healthy(self) -> bool:
        context = ssl.create_default_context(cafile=str(self._authority.ca))
        context.load_cert_chain(self._probe.certificate, self._probe.key)
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2, context=context) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError("Prometheus did not listen:\n" + log.read_text()[-3000:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
