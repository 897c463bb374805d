"""Both clients against real servers that speak TLS and want to know who calls: each failure has a reason of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import Credentials, Files, Source, fixed
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint, Series
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.observation import Missing, Unavailable
from tests.clients.certificates import Authority, Pair
from tests.clients.secured import SecuredMlflow, secured_prometheus

PASSWORD = "correct horse"
HASH = "$2b$04$KNi1VvK5NL30WbdqN9g9hOvHXCLy/eF/X134erBtx9nQtuTkwPkgS"
"""bcrypt of PASSWORD, with few rounds."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pair:
    return authority.issue("operator")


@pytest.fixture(scope="module")
def prometheus_url(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with secured_prometheus(tmp_path_factory.mktemp("prometheus"), authority, users={"ml": HASH}) as url:
        yield url


@pytest.fixture(scope="module")
def mlflow_url(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with SecuredMlflow(tmp_path_factory.mktemp("mlflow"), authority) as server:
        yield server.url


def known(authority: Authority, pair: Pair | None, **more: str) -> Source:
    return fixed(
        Credentials(
            ca=authority.ca.read_text(),
            certificate=pair.certificate.read_text() if pair else None,
            key=pair.key.read_text() if pair else None,
            **more,
        )
    )


def ask(url: str, credentials: Source) -> list[Series] | Unavailable:
    return PrometheusClient(PrometheusEndpoint(url, credentials)).instant("vector(1)", datetime.now(UTC))


def test_a_prometheus_of_an_own_authority_is_asked_with_a_certificate_of_ours(
    prometheus_url: str, authority: Authority, ours: Pair
) -> None:
    assert ask(prometheus_url, known(authority, ours, username="ml", password=PASSWORD)) == [Series({}, 1)]


def test_wrong_credentials_for_prometheus_are_told_apart(prometheus_url: str, authority: Authority, ours: Pair) -> None:
    found = ask(prometheus_url, known(authority, ours, username="ml", password="wrong"))

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.PROMETHEUS_UNAUTHORIZED
    assert "does not accept the credentials (HTTP 401)" in found.message


@pytest.mark.parametrize("way", ["unknown authority", "no certificate of ours", "a stranger's certificate"])
def test_a_tls_failure_of_prometheus_is_told_apart(
    prometheus_url: str, authority: Authority, ours: Pair, tmp_path: Path, way: str
) -> None:
    stranger = Authority(tmp_path, "stranger")
    credentials = {
        "unknown authority": known(stranger, ours),
        "no certificate of ours": known(authority, None),
        "a stranger's certificate": known(authority, stranger.issue("operator")),
    }[way]
    found = ask(prometheus_url, credentials)

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.PROMETHEUS_TLS_FAILED
    assert "TLS failed" in found.message
    assert ask(prometheus_url, credentials) == found, "the same failure has the same words"


def test_a_rotated_certificate_counts_at_the_next_query(
    prometheus_url: str, authority: Authority, ours: Pair, tmp_path: Path
) -> None:
    for name, text in (("username", "ml"), ("password", PASSWORD), ("ca.crt", authority.ca.read_text())):
        (tmp_path / name).write_text(text)
    strange = tmp_path / "strange"
    strange.mkdir()
    stranger = Authority(strange, "stranger").issue("operator")
    client = PrometheusClient(PrometheusEndpoint(prometheus_url, Files({}, str(tmp_path))))
    answers = []
    for pair in (ours, stranger, authority.issue("renewed")):
        (tmp_path / "tls.crt").write_text(pair.certificate.read_text())
        (tmp_path / "tls.key").write_text(pair.key.read_text())
        answers.append(client.instant("vector(1)", datetime.now(UTC)))

    assert [isinstance(answer, Unavailable) for answer in answers] == [False, True, False]


def test_a_registry_of_an_own_authority_is_read_with_a_certificate_of_ours(
    mlflow_url: str, authority: Authority, ours: Pair
) -> None:
    found = RegistryClient(RegistryEndpoint(mlflow_url, known(authority, ours))).read_alias("none", "champion")

    assert isinstance(found, Missing), found
    assert found.reason == Reason.MODEL_NOT_FOUND


def test_a_registry_that_misses_our_certificate_says_nothing_and_is_unreachable(
    mlflow_url: str, authority: Authority
) -> None:
    found = RegistryClient(RegistryEndpoint(mlflow_url, known(authority, None))).read_alias("m", "champion")

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.REGISTRY_UNREACHABLE, "uvicorn ends the connection without a TLS alert"
    assert "breaks connections off" in found.message


@pytest.mark.parametrize("way", ["unknown authority", "another host name"])
def test_a_tls_failure_of_the_registry_is_told_apart(
    mlflow_url: str, authority: Authority, ours: Pair, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials, url = known(authority, ours), mlflow_url
    match way:
        case "unknown authority":
            credentials = known(Authority(tmp_path, "stranger"), ours)
        case _:
            resolve = socket.getaddrinfo
            monkeypatch.setattr(
                socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)
            )  # stands in for cluster DNS
            url = mlflow_url.replace("127.0.0.1", "mlflow.example")
    found = RegistryClient(RegistryEndpoint(url, credentials)).read_alias("m", "champion")

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.REGISTRY_TLS_FAILED
    assert "TLS failed" in found.message


@pytest.mark.parametrize("broken", ["ca.crt", "tls.crt", "tls.key"])
def test_a_certificate_that_is_no_pem_is_said_without_showing_it(
    authority: Authority, ours: Pair, tmp_path: Path, broken: str
) -> None:
    for name, path in (("ca.crt", authority.ca), ("tls.crt", ours.certificate), ("tls.key", ours.key)):
        (tmp_path / name).write_text("hush-hush" if name == broken else path.read_text())
    files = Files({}, str(tmp_path))
    registry = RegistryClient(RegistryEndpoint("https://127.0.0.1:9", files)).read_alias("m", "a")
    prometheus = ask("https://127.0.0.1:9", files)

    assert isinstance(registry, Unavailable)
    assert isinstance(prometheus, Unavailable)
    assert (registry.reason, prometheus.reason) == (Reason.REGISTRY_TLS_FAILED, Reason.PROMETHEUS_TLS_FAILED)
    for found in (registry, prometheus):
        assert "is not usable PEM" in found.message
        assert "hush" not in found.message
