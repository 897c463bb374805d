"""engine.secrets: what makes a Secret usable, and what a person reads where it is not."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, cast

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import Credentials
from modelrelease.clients.kube import Kind, Kube, Refused, Unreachable
from modelrelease.core.observation import Unavailable
from modelrelease.engine.secrets import READ_AGAIN_S, NamespaceSecret

HERE = "https://mlflow.example"


class Secrets:
    """A cluster that holds Secrets only, as plain text by namespace and name; `problem` is raised instead."""

    def __init__(self, **named: dict[str, str]) -> None:
        self.named = named
        self.annotations: dict[str, str] = {}
        self.problem: Exception | None = None
        self.asked: list[tuple[str, str, str]] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        self.asked.append((kind.plural, namespace, name))
        if self.problem is not None:
            raise self.problem
        if name not in self.named:
            return None
        data = {key: base64.b64encode(value.encode()).decode() for key, value in self.named[name].items()}
        return {"metadata": {"annotations": self.annotations}, "data": data}


def secret(cluster: Secrets) -> NamespaceSecret:
    return NamespaceSecret(cast(Kube, cluster), "crm", "mlflow", HERE)


async def test_a_secret_gives_its_credentials_for_its_url() -> None:
    cluster = Secrets(mlflow={"url": f"{HERE}/", "username": "u", "password": "p", "ca.crt": "PEM"})
    source = secret(cluster)
    await source.read()

    assert source() == Credentials(username="u", password="p", ca="PEM")
    assert cluster.asked == [("secrets", "crm", "mlflow")]


async def test_the_url_may_stand_in_an_annotation() -> None:
    cluster = Secrets(mlflow={"token": "t"})
    cluster.annotations = {"modelrelease.dev/url": HERE}
    source = secret(cluster)
    await source.read()

    assert source() == Credentials(token="t")


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        pytest.param(Secrets(), "Secret crm/mlflow does not exist", id="none of that name"),
        pytest.param(Secrets(mlflow={"token": "hush"}), f"set its key url to {HERE}", id="it says no URL"),
        pytest.param(
            Secrets(mlflow={"token": "hush", "url": "https://evil.example"}),
            f"is for another URL than {HERE}; it is not sent there",
            id="it is for another URL",
        ),
        pytest.param(
            Secrets(mlflow={"username": "hush", "url": HERE}), "one of username and password", id="half a login"
        ),
    ],
)
async def test_a_secret_that_cannot_be_used_is_missing_and_says_why(cluster: Secrets, says: str) -> None:
    source = secret(cluster)
    await source.read()
    found = source()

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.SECRET_MISSING
    assert says in found.message
    assert "hush" not in found.message
    assert "evil" not in found.message


async def test_a_secret_that_the_operator_may_not_read_says_who_can_help() -> None:
    cluster = Secrets()
    cluster.problem = Refused("secrets is forbidden")
    source = secret(cluster)
    await source.read()
    found = source()

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.SECRET_MISSING
    assert "give it a Role with get on Secrets of crm (chart value secretNamespaces)" in found.message


async def test_an_api_server_that_is_away_takes_no_credentials_away() -> None:
    cluster = Secrets(mlflow={"token": "t", "url": HERE})
    source = secret(cluster)
    cluster.problem = Unreachable("the Kubernetes API did not answer in time")
    await source.read()
    before = source()
    cluster.problem = None
    await source.read()
    cluster.problem = Unreachable("the Kubernetes API did not answer in time")
    await source.read()

    assert isinstance(before, Unavailable)
    assert source() == Credentials(token="t")


@pytest.mark.virtual_time
async def test_a_rotated_secret_counts_soon_and_a_deleted_one_no_more() -> None:
    cluster = Secrets(mlflow={"token": "one", "url": HERE})
    source = secret(cluster)
    kept = asyncio.create_task(source.keep(await source.read()))
    cluster.named["mlflow"]["token"] = "two"
    await asyncio.sleep(READ_AGAIN_S + 1)
    rotated = source()
    del cluster.named["mlflow"]
    await asyncio.sleep(READ_AGAIN_S + 1)
    kept.cancel()

    assert rotated == Credentials(token="two")
    assert isinstance(source(), Unavailable)
