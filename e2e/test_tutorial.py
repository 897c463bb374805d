"""Every command of README.md and docs/tutorial.md, in their order, in a playground as a person gets it.

A block fails when one of its commands does; what the commands wait for is what the page promises. The pages' blocks
build on each other, so the first that fails ends its page.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e import images
from e2e.playground import Playground
from e2e.stack import Stack
from tests.docs.pages import PLAYED, Block, commands

BLOCKS = [block for page in PLAYED for block in commands(page)]


@pytest.fixture(scope="module")
def playground(stack: Stack) -> Iterator[Playground]:
    made = Playground(stack)
    try:
        made.open()
        yield made
    finally:
        made.close()
        stack.install_operator(images.operator())  # README.md installs it with settings of its own


_failed: list[str] = []


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(playground: Playground, block: Block) -> None:
    assert not _failed, f"the pages ended at {_failed[0]}"
    try:
        print(playground.run(block.text))
    except BaseException:
        _failed.append(str(block))
        raise
