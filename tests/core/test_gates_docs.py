"""docs/gates.md: its examples are gates, every kind that judges figures has one, its figures are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from modelrelease.api.gates import Gate
from modelrelease.core.gates.intervals import Share, newcombe

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text()
EXAMPLES = [item for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) for item in yaml.safe_load(block)]


@pytest.mark.parametrize("example", EXAMPLES, ids=[item["name"] for item in EXAMPLES])
def test_an_example_is_a_gate(example: dict[str, object]) -> None:
    assert Gate.model_validate(example).name == example["name"]


def test_every_kind_that_judges_figures_has_an_example() -> None:
    assert {"metric", "slices", "win_rate"} <= {Gate.model_validate(item).kind for item in EXAMPLES}


def test_the_tables_have_been_written() -> None:
    tables = PAGE.split("<!-- bench/gates.py: begin -->")[1].split("<!-- bench/gates.py: end -->")[0]
    assert "### The bars" in tables
    assert "**no**" not in tables


def test_about_280_samples_show_that_equal_values_keep_a_bound_of_five_points() -> None:
    def shown(n: int) -> bool:
        return newcombe(Share(0.85, n), Share(0.85, n), 0.05)[0] > -0.05

    assert (shown(270), shown(285)) == (False, True)
