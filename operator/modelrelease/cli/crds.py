"""Write the generated CRDs into a checkout, or check that the committed ones are the generated ones.

`python -m modelrelease.cli.crds [--check] DIR` knows two places: DIR, for `kubectl apply`, and the templates of the
Helm chart that stands beside it, where a value switches them off. Both come from `api.crd` and carry the same text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from modelrelease.api.crd import crds

HEADER = "# Generated from operator/modelrelease/api by `make crds`; do not edit.\n"
CHART = Path("charts/modelrelease/templates/crds")


class _Dumper(yaml.SafeDumper):
    """Repeats what occurs twice: kubectl reads anchors, people do not."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def files(directory: Path) -> dict[Path, str]:
    """Text of every generated file by its path."""
    out = {}
    for plural, crd in crds().items():
        out[directory / f"{plural}.yaml"] = HEADER + to_yaml(crd)
        out[directory.parent / CHART / f"{plural}.yaml"] = HEADER + to_chart(crd)
    return out


def to_yaml(document: dict[str, Any]) -> str:
    """YAML with keys in the order of the document, at most 120 characters a line where words allow."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)


def to_chart(crd: dict[str, Any]) -> str:
    """The CRD as a Helm template: under `crds.install`, and kept when the chart is uninstalled.

    Raises ValueError where the text would be read as a template.
    """
    kept = crd | {"metadata": crd["metadata"] | {"annotations": {"helm.sh/resource-policy": "keep"}}}
    text = to_yaml(kept)
    if "{{" in text:
        raise ValueError(f"{crd['metadata']['name']}: a description or rule contains {{{{, which Helm would evaluate")
    return "{{- if .Values.crds.install }}\n" + text + "{{- end }}\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m modelrelease.cli.crds", description="Generate the CRDs.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is not as generated")
    parser.add_argument("directory", metavar="DIR", type=Path, help="the folder crds of a checkout")
    args = parser.parse_args(argv)
    stale = {path: text for path, text in files(args.directory).items() if _read(path) != text}
    for path, text in stale.items():
        if args.check:
            print(f"{path} is not what the models say; run: make crds", file=sys.stderr)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 1 if args.check and stale else 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
