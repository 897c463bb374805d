"""Durations, times and clipped text: what is read, what is refused, and that writing and reading agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from modelrelease.api.base import Paragraph, Sentence, StatusModel, Time, format_duration, format_time, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", timedelta(0)),
        ("500ms", timedelta(milliseconds=500)),
        ("10m", timedelta(minutes=10)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("2d", timedelta(days=2)),
        ("999999d", timedelta(days=999999)),
    ],
)
def test_parse_duration_reads_numbers_with_units(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "m", "10 m", "-5m", "1.5h", "10M", "1w", "30s\n", "9999999s", "99999999999999d", "1m" * 9]
)
def test_parse_duration_refuses_the_rest_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 30s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0ms"), (0.5, "500ms"), (8, "8s"), (2280, "38m"), (5400, "1h30m"), (90061, "1d1h"), (3601, "1h1s")],
)
def test_format_duration_names_at_most_two_units(seconds: float, expected: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == expected


@given(st.integers(min_value=0, max_value=10**9))
def test_a_formatted_duration_is_read_back_within_its_two_units(seconds: int) -> None:
    read = parse_duration(format_duration(timedelta(seconds=seconds))).total_seconds()
    assert 0 <= seconds - read <= max(60, seconds * 0.05)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(minutes=345))])))
def test_a_time_survives_status_to_the_millisecond(moment: datetime) -> None:
    if not 1900 < moment.year < 9000:
        return
    adapter: TypeAdapter[datetime] = TypeAdapter(Time)
    read = adapter.validate_json(adapter.dump_json(moment))
    assert timedelta(0) <= moment - read < timedelta(milliseconds=1)
    assert format_time(read) == format_time(moment)


def test_text_for_people_is_clipped_when_read_and_when_a_copy_is_written() -> None:
    class Note(StatusModel):
        short: Sentence = ""
        long: Paragraph | None = None

    note = Note(short="a" * 300, long="ü" * 2000)
    assert (len(note.short), len(note.long or "")) == (256, 1024)
    assert note.short.endswith("a…")
    written = note.model_copy(update={"short": "b" * 999, "long": "c" * 9999}).model_dump(mode="json")
    assert {key: len(value) for key, value in written.items()} == {"short": 256, "long": 1024}
    assert Note(short="kept as it is").short == "kept as it is"
