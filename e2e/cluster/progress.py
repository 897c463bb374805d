"""What a person sees while minutes pass: which of how many, since when, and a line for each finished item.

On a terminal the current item is one line that is written over; elsewhere (CI, a pipe) each item has a line when it
begins, one a minute while it lasts, and one when it ends.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO


def span(seconds: float) -> str:
    """`42s` or `3m07s`."""
    whole = int(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60:02d}s"


class Progress:
    """Counts items; one item is under way at a time."""

    def __init__(self, total: int, out: TextIO | None = None) -> None:
        self.total = total
        self.done = 0
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._began = time.monotonic()
        self._current: tuple[str, str, float] | None = None
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._ticker.join()
        if kind is None:
            self._line(f"[{self.done}/{self.total}] all done in {span(time.monotonic() - self._began)}")

    @contextlib.contextmanager
    def item(self, name: str, detail: str = "") -> Iterator[None]:
        """Show `name` as under way until the block ends; counted as done unless it raises."""
        began = time.monotonic()
        self._current = (name, detail, began)
        if not self._live:
            self._line(self._status())
        try:
            yield
        except BaseException:
            self._line(f"[{self.done + 1}/{self.total}] {name} failed after {span(time.monotonic() - began)}")
            raise
        finally:
            self._current = None
        self.done += 1
        self._line(f"[{self.done}/{self.total}] {name} in {span(time.monotonic() - began)}")

    def _status(self) -> str:
        if self._current is None:
            return ""
        name, detail, began = self._current
        now = time.monotonic()
        what = f"{name} ({detail})" if detail else name
        return f"[{self.done + 1}/{self.total}] {what}: {span(now - began)}, {span(now - self._began)} in all"

    def _line(self, text: str) -> None:
        self._out.write(f"\r\x1b[2K{text}\n" if self._live else f"{text}\n")
        self._out.flush()

    def _tick(self) -> None:
        while not self._stop.wait(0.5 if self._live else 60):
            text = self._status()
            if text and self._live:
                self._out.write(f"\r\x1b[2K{text}")
                self._out.flush()
            elif text:
                self._line(text)
