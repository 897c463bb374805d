"""Examples in the documentation that are not manifests or commands: they do what their page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from modelrelease.clients.webhook import signature
from tests.docs.pages import DOCS, ROOT, blocks


def test_the_receiver_of_the_retraining_page_knows_the_operators_signature() -> None:
    (example,) = (block for block in blocks(DOCS / "how-to" / "retraining.md") if block.language == "python")
    known: dict[str, Any] = {}
    exec(compile(example.text, str(example), "exec"), known)
    body = b'{"type": "dev.modelrelease.retrain"}'
    headers = {
        "webhook-id": "record-1",
        "webhook-timestamp": "1767225600",
        "webhook-signature": signature([b"former", b"current"], "record-1", "1767225600", body),
    }
    assert known["is_from_the_operator"](b"current", headers, body)
    assert not known["is_from_the_operator"](b"current", headers, body + b" ")
    assert not known["is_from_the_operator"](b"other", headers, body)


def test_what_argo_cd_is_told_to_ignore_is_what_is_tested_in_it() -> None:
    tested = Path(ROOT / "e2e" / "test_argocd.py").read_text(encoding="utf-8")
    told = [yaml.safe_load(block.text) for block in blocks(DOCS / "argocd.md") if block.language == "yaml"]
    (application,) = (item["spec"] for item in told if "ignoreDifferences" in item.get("spec", {}))
    (ignored,) = application["ignoreDifferences"]
    for text in (*ignored["jqPathExpressions"], ignored["group"], *application["syncPolicy"]["syncOptions"]):
        assert f'"{text}"' in tested, text


def test_the_health_that_is_told_names_every_phase() -> None:
    page = (DOCS / "argocd.md").read_text(encoding="utf-8")
    health = page.split("| phase | health |")[1].split("\n\n")[0]
    lua = yaml.safe_load((ROOT / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8"))["data"]
    for word in ("Healthy", "Degraded", "Progressing", "Suspended"):
        assert f"| {word}" in health
        assert f'"{word}"' in lua["resource.customizations.health.modelrelease.dev_ModelRelease"]


def test_every_screen_of_a_page_begins_as_the_plugin_draws_it() -> None:
    drawn = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "cli" / "screens").glob("*-80.txt")]
    for page in (ROOT / "README.md", DOCS / "cli.md"):
        screens = [block for block in blocks(page) if block.text.startswith("crm/churn ")]
        assert screens, page
        for block in screens:
            assert any(screen.startswith(block.text) for screen in drawn), block
