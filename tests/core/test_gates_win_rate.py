"""Win rates and the quality of the judgments behind them, word for word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.api.gates import Gate
from modelrelease.api.status import GateStatus
from modelrelease.core.gates import Context, evaluate, tradeoff
from modelrelease.core.observation import MetricValue, ModelVersion
from tests.core.builders import NOW

RULES: dict[str, Any] = {"metric": "win_rate", "samples": "win_rate/n"}


def version(number: str = "2", judge: str | None = None, **metrics: float) -> ModelVersion:
    """A version with these metrics (`__` stands for a slash) and a tag that names its judge."""
    found = tuple(MetricValue(key.replace("__", "/"), value) for key, value in metrics.items())
    tags = {"judge": judge} if judge else {}
    return ModelVersion("chat", number, "models:/m", "READY", NOW, "r1", found, tags=tags)


def said(candidate: ModelVersion, champion: ModelVersion | None = None, /, **rules: Any) -> GateStatus:
    """What a gate on the win rate says."""
    gate = Gate.model_validate({"name": "gate", "winRate": RULES | rules})
    (seen,) = evaluate([gate], candidate, champion, Context(NOW))
    return seen


def judged(rate: float, n: float, **more: float) -> dict[str, float]:
    """The figures of a win rate."""
    return {"win_rate": rate, "win_rate__n": n, **more}


QUALITY: dict[str, Any] = {"judge": {"minAgreement": 0.6, "minAnnotators": 3, "minHumanShare": 0.2}}
GOOD: dict[str, float] = {"judge__agreement": 0.7, "judge__annotators": 3, "judge__human_share": 0.25}
CASES: dict[str, tuple[dict[str, Any], dict[str, float], str, str]] = {
    "a rate above a half beyond doubt passes": (
        {}, judged(0.6, 200), "Pass",
        "win_rate: 0.6 of 200 judgments, at 95 % confidence above 0.5397, needs more than 0.5"),
    "a rate that may be luck is insufficient": (
        {}, judged(0.55, 200), "InsufficientData",
        "win_rate: 0.55 of 200 judgments, at 95 % confidence above 0.4894, needs more than 0.5: about 91 more "
        "judgments at this rate would show it"),
    "a rate below the minimum fails": (
        {}, judged(0.48, 2000), "Fail",
        "win_rate: 0.48 of 2,000 judgments, at 95 % confidence above 0.4614, needs more than 0.5"),
    "wilson needs a little less": (
        {"method": "wilson"}, judged(0.56, 190), "Pass",
        "win_rate: 0.56 of 190 judgments, at 95 % confidence above 0.5003, needs more than 0.5"),
    "ties count half": (
        {"ties": "ties"}, judged(0.5, 200, ties=40), "Pass",
        "win_rate: 0.6 of 200 judgments, at 95 % confidence above 0.5397, needs more than 0.5"),
    "more wins and ties than judgments cannot be": (
        {"ties": "ties"}, judged(0.9, 200, ties=40), "InsufficientData",
        "win_rate: 0.9 of 200 won and 40 tied, which cannot be"),
    "judgments of one prompt count once": (
        {"clusters": "prompts"}, judged(0.6, 200, prompts=50), "InsufficientData",
        "win_rate: 0.6 of 200 judgments, worth 50 independent ones, at 95 % confidence above 0.4739, needs more than "
        "0.5: about 28 more prompts at this rate would show it"),
    "a standard error says what they are worth": (
        {"standardError": "win_rate/se"}, judged(0.6, 200, win_rate__se=0.049), "Pass",
        "win_rate: 0.6 of 200 judgments, worth 100 independent ones, at 95 % confidence above 0.513, needs more than "
        "0.5"),
    "a negative standard error is none": (
        {"standardError": "win_rate/se"}, judged(0.6, 200, win_rate__se=-0.1), "InsufficientData",
        "metric win_rate/se of version 2 is -0.1, not a standard error"),
    "samples that were not logged are asked for": (
        {}, {"win_rate": 0.9}, "InsufficientData", "metric win_rate/n was not logged for version 2"),
    "a rate that was not logged is asked for": (
        {}, {"win_rate__n": 9}, "InsufficientData", "metric win_rate was not logged for version 2"),
    "a rate in percent is no share": (
        {}, judged(60, 200), "InsufficientData", "win_rate is 60, not a share between 0 and 1"),
    "no judgment is no number of samples": (
        {}, judged(0.6, 0), "InsufficientData",
        "metric win_rate/n of version 2 is 0, not a number of samples"),
    "a rate that is not corrected for length does not count": (
        {"lengthControlled": True}, judged(0.9, 500), "InsufficientData",
        "metric length_controlled_win_rate was not logged for version 2: the gate asks for it with lengthControlled"),
    "a rate corrected for length counts": (
        {"lengthControlled": True}, judged(0.9, 500, length_controlled_win_rate=0.49), "Fail",
        "length_controlled_win_rate: 0.49 of 500 judgments, at 95 % confidence above 0.4523, needs more than 0.5"),
    "good judgments pass": (
        QUALITY, judged(0.6, 200, **GOOD), "Pass",
        "win_rate: 0.6 of 200 judgments, at 95 % confidence above 0.5397, needs more than 0.5"),
    "judges that disagree fail": (
        QUALITY, judged(0.6, 200, **GOOD | {"judge__agreement": 0.4}), "Fail", "judge/agreement: 0.4, needs 0.6"),
    "a figure of quality that was not logged is asked for": (
        QUALITY, judged(0.6, 200, judge__agreement=0.9, judge__annotators=3), "InsufficientData",
        "metric judge/human_share was not logged for version 2"),
    "too many ties fail, by the ties of the gate": (
        {"ties": "ties", "judge": {"maxTieShare": 0.1}}, judged(0.6, 200, ties=40), "Fail",
        "ties / win_rate/n: 0.2, allowed 0.1"),
    "too many ties fail, by a share that was logged": (
        {"judge": {"maxTieShare": 0.1}}, judged(0.6, 200, judge__tie_share=0.2), "Fail",
        "judge/tie_share: 0.2, allowed 0.1"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_win_rate_says(case: tuple[dict[str, Any], dict[str, float], str, str]) -> None:
    rules, metrics, verdict, message = case
    seen = said(version(**metrics), **rules)
    assert (seen.verdict, seen.message) == (verdict, message)


def test_what_is_said_to_be_needed_is_about_enough() -> None:
    assert said(version(**judged(0.55, 291))).verdict == "Pass"
    assert said(version(**judged(0.55, 260))).verdict == "InsufficientData"


@given(st.integers(1, 3000), st.data(), st.sampled_from(["clopperPearson", "wilson"]))
def test_another_win_never_makes_it_worse(n: int, data: st.DataObject, method: str) -> None:
    wins = data.draw(st.integers(0, n - 1))
    worst_first = ("Fail", "InsufficientData", "Pass")
    one, more = (said(version(**judged(won / n, n)), method=method).verdict for won in (wins, wins + 1))
    assert worst_first.index(one) <= worst_first.index(more)


def test_the_figures_stand_in_the_status() -> None:
    seen = said(version(**judged(0.6, 200)))
    assert (seen.value, seen.threshold, seen.samples, seen.source) == (0.6, 0.5, 200, "LoggedModel")


JUDGES: dict[str, tuple[str | None, str | None, str, str]] = {
    "the same judge": ("gpt@3", "gpt@3", "Pass", "win_rate: 0.6 of 200"),
    "another judge": ("gpt@3", "gpt@2", "Fail", "judged by gpt@3, the champion by gpt@2: needs the same judge"),
    "a champion without a judge": (
        "gpt@3", None, "InsufficientData", "tag judge of version 1, which names the judge, was not set"),
    "a candidate without a judge": (
        None, "gpt@2", "InsufficientData", "tag judge of version 2, which names the judge, was not set"),
}  # fmt: skip


@pytest.mark.parametrize("case", JUDGES.values(), ids=JUDGES.keys())
def test_the_judge_is_the_champions(case: tuple[str | None, str | None, str, str]) -> None:
    own, other, verdict, words = case
    candidate, champion = version("2", own, **judged(0.6, 200)), version("1", other, **judged(0.6, 200))
    seen = said(candidate, champion, judge={"sameAs": "champion"})
    assert (seen.verdict, seen.message[: len(words)]) == (verdict, words)


def test_while_nothing_serves_any_judge_will_do() -> None:
    assert said(version(judge=None, **judged(0.6, 200)), judge={"sameAs": "champion"}).verdict == "Pass"


def locales(**rates: tuple[float, float]) -> dict[str, float]:
    """Win rates by locale."""
    out = {}
    for locale, (rate, n) in rates.items():
        out[f"locale__{locale}__win_rate"], out[f"locale__{locale}__win_rate__n"] = rate, n
    return out


LOCALES: dict[str, tuple[dict[str, Any], dict[str, float], str, str]] = {
    "every locale holds": (
        {}, locales(de=(0.6, 400), fr=(0.65, 300)), "Pass",
        "2 slices, the tightest win_rate[locale/de]: 0.6 of 400 judgments, at 95 % confidence above 0.558, needs more "
        "than 0.5"),
    "one locale below the minimum fails": (
        {}, locales(de=(0.6, 400), fr=(0.4, 300)), "Fail",
        "win_rate[locale/fr]: 0.4 of 300 judgments, at 95 % confidence above 0.3527, needs more than 0.5"),
    "several locales need more than one would, by Holm": (
        {}, locales(de=(0.562, 200), fr=(0.562, 200)), "InsufficientData",
        "win_rate[locale/de]: 0.562 of 200 judgments, at 97.5 % confidence above 0.4903, needs more than 0.5: about 66 "
        "more judgments at this rate would show it; win_rate[locale/fr]: 0.562 of 200 judgments, at 97.5 % confidence "
        "above 0.4903, needs more than 0.5: a\N{HORIZONTAL ELLIPSIS}"),
    "a required locale that was not judged fails": (
        {"required": ["de", "ja"]}, locales(de=(0.6, 400)), "Fail", "win_rate[locale/*] was not judged for ja"),
    "no locale at all is missing": (
        {}, judged(0.6, 200), "InsufficientData",
        "no slice matches locale/*/win_rate in the evaluation of version 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOCALES.values(), ids=LOCALES.keys())
def test_by_locale_a_win_rate_says(case: tuple[dict[str, Any], dict[str, float], str, str]) -> None:
    rules, metrics, verdict, message = case
    seen = GateStatus.model_validate(said(version(**metrics), slices="locale/*", **rules).model_dump())
    assert (seen.verdict, seen.message) == (verdict, message)


def test_the_quality_of_a_slice_is_its_own_where_it_was_logged() -> None:
    figures = locales(de=(0.6, 400), fr=(0.65, 300)) | {"judge__agreement": 0.9}
    rules: dict[str, Any] = {"slices": "locale/*", "judge": {"minAgreement": 0.6}}
    assert said(version(**figures), **rules).verdict == "Pass"
    seen = said(version(**figures, locale__fr__judge__agreement=0.5), **rules)
    assert (seen.verdict, seen.message) == ("Fail", "locale/fr/judge/agreement: 0.5, needs 0.6")


# -- several objectives --
def status(name: str, value: float | None, champion: float | None) -> GateStatus:
    return GateStatus(name=name, verdict="Pass", message="", value=value, champion=champion)


TRADES: dict[str, tuple[list[GateStatus], str]] = {
    "what is gained and what is lost": (
        [status("helpfulness", 0.721, 0.7), status("safety", 0.891, 0.9)], "helpfulness +3.0 %, safety -1.0 %"),
    "gates without a champion's value trade nothing": (
        [status("auc", 0.7, None), status("a", 1.1, 1.0), status("b", 0.9, 1.0)], "a +10.0 %, b -10.0 %"),
    "one objective alone is no trade": ([status("a", 1.1, 1.0), status("tags", None, None)], ""),
    "of a champion's zero there is no percentage": (
        [status("a", 0.25, 0.0), status("b", -0.5, -1.0)], "a +0.25, b +50.0 %"),
    "of many the first are shown": (
        [status(f"g{at}", 1.0, 1.0) for at in range(10)],
        ", ".join(f"g{at} +0.0 %" for at in range(8)) + " and 2 more"),
}  # fmt: skip


@pytest.mark.parametrize("case", TRADES.values(), ids=TRADES.keys())
def test_the_trade_off_is_shown(case: tuple[list[GateStatus], str]) -> None:
    statuses, words = case
    assert tradeoff(statuses) == words
