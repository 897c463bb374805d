"""The runbook has an entry for every reason, and none for anything else."""

from __future__ import annotations

import re

import pytest

from modelrelease.api.reasons import Reason
from tests.docs.pages import DOCS, anchors

PAGE = DOCS / "runbook.md"
QUESTIONS = ("Seen", "Users", "Do", "By itself")
ENTRIES = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


def test_every_reason_has_an_entry_and_every_entry_a_reason() -> None:
    assert sorted(ENTRIES) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize("reason", Reason)
def test_the_anchor_of_a_reason_is_its_word_in_lower_case(reason: Reason) -> None:
    assert reason.value.lower() in anchors(PAGE)


@pytest.mark.parametrize("reason", list(ENTRIES))
def test_an_entry_answers_four_questions_in_a_few_lines(reason: str) -> None:
    lines = ENTRIES[reason].strip().splitlines()
    assert [line.partition("*:")[0].removeprefix("- *") for line in lines] == list(QUESTIONS)
    assert all(len(line) <= 220 for line in lines), "short enough for three in the morning"


@pytest.mark.parametrize("reason", list(ENTRIES))
def test_an_entry_says_whether_users_are_hurt_before_all_else(reason: str) -> None:
    users = next(line for line in ENTRIES[reason].splitlines() if line.startswith("- *Users*: "))
    words = users.removeprefix("- *Users*: ")
    assert words.startswith(("SAFE", "HURT", "perhaps", "not served", "as ", "for a moment")), words
