"""The process as a whole, where no API server is needed."""

from __future__ import annotations

from typing import Any, cast

import pytest

from modelrelease.__main__ import Operator
from modelrelease.clients.kube import Kube
from modelrelease.settings import Settings


class Faulty:
    """An API client with a bug."""

    async def get(self, *_: Any) -> None:
        raise KeyError("spec")

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_bug_while_standing_by_is_not_taken_for_an_orderly_end() -> None:
    settings = Settings("http://127.0.0.1:1", "http://127.0.0.1:1", identity="one", port=0)
    with pytest.raises(KeyError):
        await Operator(settings, cast(Kube, Faulty())).run()
