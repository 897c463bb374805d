"""The screens of the reading verbs as text, and what holds for all. `python -m tests.cli.screens` rewrites them."""

from __future__ import annotations

import pytest

from .screens import FOLDER, screens

ALL = list(screens())


@pytest.mark.parametrize(("name", "width", "text"), ALL, ids=[f"{name}-{width}" for name, width, _ in ALL])
def test_a_screen_when_drawn_is_as_it_is_kept(name: str, width: int, text: str) -> None:
    assert f"{text}\n" == (FOLDER / f"{name}-{width}.txt").read_text(encoding="utf-8")


def test_screens_when_listed_are_just_those_that_are_kept() -> None:
    assert {path.name for path in FOLDER.glob("*.txt")} == {f"{name}-{width}.txt" for name, width, _ in ALL}


@pytest.mark.parametrize(("name", "width", "text"), ALL, ids=[f"{name}-{width}" for name, width, _ in ALL])
def test_a_screen_when_drawn_fits_its_width(name: str, width: int, text: str) -> None:
    wide = [line for line in text.splitlines() if len(line) > width and not line.strip().startswith("kubectl ")]
    assert wide == []


@pytest.mark.parametrize(
    ("name", "width", "text"), [item for item in ALL if item[0].startswith("status-")], ids=lambda item: str(item)[:40]
)
def test_a_status_when_drawn_tells_first_who_is_hurt_and_second_what_to_do(name: str, width: int, text: str) -> None:
    first, second, *_ = text.splitlines()
    assert "users: " in first
    assert second.startswith("  You need to do: ")
