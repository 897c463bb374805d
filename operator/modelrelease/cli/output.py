"""What the reading verbs say to programs: the same words as on the screen, as JSON or YAML."""

from __future__ import annotations

import json
from typing import Any

from modelrelease.api.base import format_time
from modelrelease.core.explain import explain

from .terminal import now
from .views.values import Release


def explained(release: Release) -> dict[str, Any]:
    """Who is hurt, what has to be done, what comes next."""
    seen = explain(release.status, release.known, now())
    return {
        "namespace": release.namespace,
        "name": release.name,
        "phase": release.status.phase,
        "users": seen.users.value,
        "since": format_time(seen.since) if seen.since else None,
        "because": seen.because,
        "shares": seen.shares,
        "youNeedToDo": seen.do,
        "command": seen.command or None,
        "next": seen.next,
        "needsSomebody": seen.ill,
        "urgency": seen.urgency.name.capitalize(),
    }


def dumped(value: Any, output: str) -> str:
    """As text, without a line break at its end."""
    if output == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text.rstrip("\n")
