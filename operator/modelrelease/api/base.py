"""Building blocks of the resource models: the base classes, durations, times and small field types.

Every model is frozen; a change is a copy. Field names are snake_case here and camelCase on the wire. What a field may
hold is said once, here or on the field, and reaches the CRD from there (`api.crd`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

GROUP = "modelrelease.dev"
NAME_LABEL, REVISION_LABEL = f"{GROUP}/name", f"{GROUP}/revision"
"""On everything that belongs to a release, and to one of its revisions."""
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DURATION_PATTERN = r"^([0-9]{1,6}(ms|s|m|h|d))+$"
DURATION_MAX_LENGTH = 16
PARAGRAPH_MAX = 1024
_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_DURATION_EXAMPLES = "write for example 30s, 10m, 1h30m or 500ms"
_UNIT = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DNS_LABEL_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class SpecModel(BaseModel):
    """What a person writes: an unknown field is an error."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class StatusModel(BaseModel):
    """What the operator writes: a field of a newer operator is ignored, so that a downgrade can read it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


def parse_duration(text: str) -> timedelta:
    """Read `1h30m`, `500ms`, `2d` as a timedelta. Raises ValueError on anything else."""
    if not _DURATION.fullmatch(text) or len(text) > DURATION_MAX_LENGTH:
        raise ValueError(f"not a duration: {text!r} ({_DURATION_EXAMPLES})")
    return sum(
        (timedelta(**{_UNIT[unit]: int(number)}) for number, unit in _DURATION_PART.findall(text)), start=timedelta()
    )


def format_duration(duration: timedelta) -> str:
    """Write a duration as people read it, at most two units: `38m`, `1h30m`, `8s`, `500ms`."""
    total_ms = round(duration.total_seconds() * 1000)
    if total_ms < 1000:
        return f"{total_ms}ms"
    seconds, out = total_ms // 1000, []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size:
            out.append(f"{seconds // size}{unit}")
            seconds %= size
    return "".join(out[:2])


def _check_duration(text: str) -> str:
    parse_duration(text)
    return text


def _check_utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as it stands in status."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


def rule(expression: str, message: str, **extra: str) -> dict[str, str]:
    """One CEL validation as it stands under x-kubernetes-validations."""
    return {"rule": expression, "message": message, **extra}


def validations(*rules: dict[str, str]) -> dict[str, Any]:
    """The json_schema_extra that carries CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(rules)}


def list_map(key: str = "name") -> dict[str, Any]:
    """The json_schema_extra of a list whose items are told apart by `key`, so that server-side apply merges them."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


Duration = Annotated[
    str,
    AfterValidator(_check_duration),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": DURATION_MAX_LENGTH,
            # A CEL rule instead of `pattern`: the API server would quote the expression and say nothing else.
            **validations(rule(f"self.matches('{DURATION_PATTERN}')", f"not a duration; {_DURATION_EXAMPLES}")),
        }
    ),
]
Time = Annotated[
    datetime,
    AfterValidator(_check_utc),
    PlainSerializer(format_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
IntOrString = Annotated[int | str, WithJsonSchema({"x-kubernetes-int-or-string": True})]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Weight = Annotated[int, Field(ge=0, le=100)]


def clip(text: str, limit: int) -> str:
    """The text, or as much of its beginning as fits together with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _sentence(limit: int) -> tuple[Any, ...]:
    """Clipped when read and when written: a copy is not validated, and a refused status would stop the release."""
    clipped = partial(clip, limit=limit)
    return (
        BeforeValidator(clipped, json_schema_input_type=str),
        PlainSerializer(clipped, return_type=str),
        WithJsonSchema({"type": "string", "maxLength": limit}),
    )


Word = Annotated[str, Field(max_length=128)]
Phrase = Annotated[str, *_sentence(128)]
Sentence = Annotated[str, *_sentence(256)]
Paragraph = Annotated[str, *_sentence(PARAGRAPH_MAX)]

LATE_DEFAULT: dict[str, Any] = {"x-modelrelease-late-default": True}
"""The json_schema_extra of a field whose default the runtime decides: the API server sets none."""

PRESERVE: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def one_of(model: SpecModel, names: tuple[str, ...], what: str) -> None:
    """Raise ValueError unless exactly one of these fields is set."""
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        raise ValueError(f"{what}: exactly one of {', '.join(names)} must be set, got {given or 'none'}")


def exactly_one(kinds: tuple[str, ...], what: str) -> dict[str, str]:
    """The CEL rule that exactly one of these fields is set; `one_of` says the same in Python."""
    fields = [to_camel(kind) for kind in kinds]
    given = ", ".join(f"has(self.{field})" for field in fields)
    return rule(
        f"[{given}].filter(x, x).size() == 1",
        f"{what} must set exactly one of {', '.join(fields[:-1])} and {fields[-1]}",
    )


def check_unique(what: str, names: list[str]) -> None:
    """Raise ValueError naming the first repeated name."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: the name {name!r} is used twice")
