"""clients.connection: whose credentials go where, and what no endpoint can do to the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.clients import connection
from modelrelease.clients.connection import (
    ANONYMOUS,
    BoundedSession,
    Connection,
    Credentials,
    Files,
    fixed,
    from_contents,
)
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.observation import Unavailable
from tests.clients.loopback import Answer, Request, serve


def read(url: str, source: connection.Source = ANONYMOUS) -> object:
    return RegistryClient(RegistryEndpoint(url, source), timeout_s=2, retries=0).read_alias("m", "a")


def test_a_rotated_file_counts_at_the_next_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with serve(lambda _: Answer(401)) as server:
        client = RegistryClient(RegistryEndpoint(server.url, Files({"token": str(token)})))
        for text in ("one\n", "two"):
            token.write_text(text)
            client.read_alias("m", "a")

    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]


def test_a_mounted_secret_is_read_as_one(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "username").write_text(f"user-{version}")
        (tmp_path / version / "password").write_text("p")
    source = Files({}, str(tmp_path))
    (tmp_path / "..data").symlink_to("v1")
    before = source()
    (tmp_path / "..new").symlink_to("v2")
    os.replace(tmp_path / "..new", tmp_path / "..data")

    assert before == Credentials(username="user-v1", password="p")
    assert source() == Credentials(username="user-v2", password="p")


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"username": "u"}, "one of username and password"),
        ({"password": "p"}, "one of username and password"),
        ({"token": "hush", "username": "u", "password": "p"}, "a token and a user name"),
        ({"tls.key": "hush"}, "one of tls.crt and tls.key"),
        ({"token": "hush\nX-Admin: yes"}, "more than one line"),
    ],
)
def test_credentials_that_cannot_be_meant_are_said_and_not_shown(contents: dict[str, str], says: str) -> None:
    problem = from_contents(contents)

    assert isinstance(problem, str)
    assert says in problem
    assert "hush" not in problem


def test_credentials_show_no_secret() -> None:
    text = repr(Credentials(token="hush", password="hush", key="hush", username="me"))
    assert "hush" not in text
    assert "me" in text


def test_a_password_of_the_home_directory_goes_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login root password hush\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with serve(lambda _: Answer(401)) as server:
        read(server.url)
        read(server.url, fixed(Credentials(token="mine")))

    assert [request.headers.get("Authorization") for request in server.requests] == [None, "Bearer mine"]


def test_variables_of_mlflow_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "root")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    with serve(lambda _: Answer(401)) as server:
        read(server.url)

    assert [request.headers.get("Authorization") for request in server.requests] == [None]


def test_two_clients_of_one_server_share_no_session_and_no_cookie() -> None:
    def answer(request: Request) -> Answer:
        return Answer(401, b"", {"Set-Cookie": f"session={request.headers['Authorization'][-1]}; Path=/"})

    with serve(answer) as server:
        for token in ("1", "2", "1"):
            read(server.url, fixed(Credentials(token=token)))
        same = RegistryClient(RegistryEndpoint(server.url, fixed(Credentials(token="3"))))
        same.read_alias("m", "a")
        same.read_alias("m", "a")
    one, other = (Connection(ANONYMOUS, BoundedSession).session() for _ in range(2))

    assert [request.headers.get("Cookie") for request in server.requests] == [None] * 5
    assert one is not other


def test_a_redirect_takes_credentials_nowhere() -> None:
    with serve(lambda _: Answer(401)) as other:
        there = {"Location": f"{other.url}/api"}
        with serve(lambda _: Answer(307, b"", there)) as server:
            found = read(server.url, fixed(Credentials(token="mine")))

    assert isinstance(found, Unavailable)
    assert len(server.requests) == 1
    assert other.requests == []


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_ANSWER", 100_000)
    with serve(lambda _: Answer(200, b"x" * 300_000)) as server:
        found = read(server.url)

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.REGISTRY_UNREACHABLE
    assert "larger than any that can be meant" in found.message
