"""Commands of the documentation: each block is run by a test, or says why it is not.

`e2e/test_tutorial.py` runs those of README.md and docs/tutorial.md on a whole cluster.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.docs.pages import DOCS, PLAYED, ROOT, Block, blocks, commands, pages

SHELLS = ("sh", "bash", "shell")
OURS = [
    ROOT / "README.md",
    DOCS / "tutorial.md",
    DOCS / "index.md",
    DOCS / "argocd.md",
    *(DOCS / "how-to").glob("*.md"),
]
SHELL_BLOCKS = [block for page in OURS if page.exists() for block in blocks(page) if block.language in SHELLS]


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_a_block_of_commands_is_run_or_says_why_not(block: Block) -> None:
    assert block.language == "sh", "mark it sh, or console where it shows what is printed"
    assert block.reason or block.page in PLAYED, "put <!-- not run: why --> before it, or run its page"


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_a_block_of_commands_is_correct_shell(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_readme_and_tutorial_promote_a_model_and_have_one_taken_back() -> None:
    for page in PLAYED:
        text = "".join(block.text for block in commands(page))
        assert "kubectl apply -f digits.yaml" in text
        assert "--for=condition=Ready" in text
        assert "=RolledBack" in text


def test_no_page_marks_commands_in_a_way_that_nobody_reads() -> None:
    odd = [str(block) for page in pages() for block in blocks(page) if block.language in ("bash", "shell")]
    assert not odd, f"mark commands sh: {odd}"
