"""The gate `winRate` on evaluations that mlflow's client logged to a real server."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.mlflow_server import MlflowServer
from tests.clients.evaluations import Registry

RULES: dict[str, Any] = {"metric": "win_rate", "samples": "win_rate/n", "dataset": "holdout"}


@pytest.fixture
def registry(mlflow_server: MlflowServer) -> Registry:
    return Registry(mlflow_server)


def test_a_win_rate_above_a_half_beyond_doubt_passes(registry: Registry) -> None:
    version = registry.evaluated({"win_rate": 0.5, "win_rate/n": 400, "win_rate/ties": 80})
    seen = registry.says({"winRate": RULES | {"ties": "win_rate/ties"}}, version)
    assert (seen.verdict, seen.message) == (
        "Pass",
        "win_rate: 0.6 of 400 judgments, at 95 % confidence above 0.558, needs more than 0.5",
    )
    assert (seen.value, seen.samples, seen.threshold, seen.dataset) == (0.6, 400, 0.5, "holdout@h1")


def test_a_win_rate_below_the_minimum_fails(registry: Registry) -> None:
    seen = registry.says({"winRate": RULES}, registry.evaluated({"win_rate": 0.45, "win_rate/n": 400}))
    assert (seen.verdict, seen.message) == (
        "Fail",
        "win_rate: 0.45 of 400 judgments, at 95 % confidence above 0.4082, needs more than 0.5",
    )


def test_judgments_of_few_prompts_are_insufficient(registry: Registry) -> None:
    version = registry.evaluated({"win_rate": 0.6, "win_rate/n": 400, "prompts": 40})
    seen = registry.says({"winRate": RULES | {"clusters": "prompts"}}, version)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "win_rate: 0.6 of 400 judgments, worth 40 independent ones, at 95 % confidence above 0.4578, needs more than "
        "0.5: about 38 more prompts at this rate would show it",
    )


def test_a_missing_figure_names_what_to_log(registry: Registry) -> None:
    version = registry.evaluated({"win_rate": 0.9, "win_rate/n": 400})
    rules = RULES | {"judge": {"minAgreement": 0.6}}
    seen = registry.says({"winRate": rules}, version)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "metric judge/agreement was not logged for version 1",
    )


def test_the_judge_must_be_the_champions(registry: Registry) -> None:
    rules = {"winRate": RULES | {"judge": {"sameAs": "champion"}}}
    wins = {"win_rate": 0.6, "win_rate/n": 400}
    champion = registry.evaluated(wins, tags={"judge": "judge-llm@3"})
    same = registry.evaluated(wins, tags={"judge": "judge-llm@3"})
    other = registry.evaluated(wins, tags={"judge": "judge-llm@4"})
    unnamed = registry.evaluated(wins)
    assert registry.says(rules, same, champion).verdict == "Pass"
    seen = registry.says(rules, other, champion)
    assert (seen.verdict, seen.message) == (
        "Fail",
        "judged by judge-llm@4, the champion by judge-llm@3: needs the same judge",
    )
    seen = registry.says(rules, unnamed, champion)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "tag judge of version 4, which names the judge, was not set",
    )


def test_every_locale_must_hold(registry: Registry) -> None:
    def by_locale(**rates: float) -> str:
        metrics: dict[str, float] = {}
        for locale, rate in rates.items():
            metrics |= {f"locale/{locale}/win_rate": rate, f"locale/{locale}/win_rate/n": 400}
        return registry.evaluated(metrics)

    rules = {"winRate": RULES | {"slices": "locale/*", "required": ["de", "fr"]}}
    assert registry.says(rules, by_locale(de=0.6, fr=0.65)).verdict == "Pass"
    seen = registry.says(rules, by_locale(de=0.6, fr=0.45))
    assert (seen.verdict, seen.message) == (
        "Fail",
        "win_rate[locale/fr]: 0.45 of 400 judgments, at 95 % confidence above 0.4082, needs more than 0.5",
    )
    seen = registry.says(rules, by_locale(de=0.6))
    assert (seen.verdict, seen.message) == ("Fail", "win_rate[locale/*] was not judged for fr")


def test_only_the_length_controlled_rate_counts_where_it_is_asked_for(registry: Registry) -> None:
    rules = {"winRate": RULES | {"lengthControlled": True}}
    raw = registry.evaluated({"win_rate": 0.9, "win_rate/n": 400})
    seen = registry.says(rules, raw)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "metric length_controlled_win_rate was not logged for version 1: the gate asks for it with lengthControlled",
    )
    both = registry.evaluated({"win_rate": 0.9, "length_controlled_win_rate": 0.6, "win_rate/n": 400})
    assert registry.says(rules, both).value == 0.6


def test_an_unreadable_registry_is_unavailable(registry: Registry) -> None:
    assert registry.says({"winRate": RULES}, "7").verdict == "Unavailable"
