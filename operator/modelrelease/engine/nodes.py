"""The labels of nodes, read once and kept: they say which accelerator a pod runs on, and change rarely.

Here: what is kept, for how long, and what happens where nodes may not be read. Not here: what the labels mean
(clients.hardware). The rule: nothing that a pass must do waits for a node or fails with it; what is not known is empty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelrelease.clients.kube import NODE, Kube, KubeError, Refused

MAX_AGE = timedelta(minutes=10)
RETRY_AFTER = timedelta(minutes=1)
AT_ONCE = 16
"""Nodes read in one pass; the rest follow in the next ones."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    labels: Mapping[str, str]
    until: datetime


@dataclass(slots=True)
class Nodes:
    """Labels by node, shared by all releases."""

    kube: Kube
    _known: dict[str, _Known] = field(default_factory=dict)
    _refused: bool = False

    async def labels(self, names: Iterable[str], now: datetime) -> dict[str, Mapping[str, str]]:
        """The labels of these nodes. Where one cannot be read: what was known of it last, or nothing."""
        asked = sorted({name for name in names if name})
        due = [name for name in asked if name not in self._known or self._known[name].until <= now][:AT_ONCE]
        if due:
            self._known = {name: item for name, item in self._known.items() if item.until + MAX_AGE > now}
            await asyncio.gather(*(self._read(name, now) for name in due))
        return {name: self._known[name].labels if name in self._known else {} for name in asked}

    async def _read(self, name: str, now: datetime) -> None:
        known = self._known.get(name)
        labels, until = known.labels if known else {}, now + RETRY_AFTER
        try:
            node = await self.kube.get(NODE, None, name)
        except Refused as error:
            until = now + MAX_AGE
            if not self._refused:
                self._refused = True
                logger.warning("nodes cannot be read, so hardware is not compared: %s", error)
        except KubeError as error:
            logger.info("node %s could not be read: %s", name, error)
        else:
            labels, until = (node or {"metadata": {}})["metadata"].get("labels") or {}, now + MAX_AGE
        self._known[name] = _Known(labels, until)
