"""Builds Go programs out of published modules, without a checkout of them.

What lives here: downloading a module, generating the go.mod that stands in for the module's own (whose `replace`
lines Go ignores when the module is not the main one), and running `go build`. Which programs are wanted, where they
are kept and what is shown to a person is in `binaries`.

The rule: every version is pinned by the caller; nothing here asks for "latest".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BuildError(RuntimeError):
    """A build did not succeed; the message holds the last lines of the tool's output and the path of its log."""


@dataclass(frozen=True, slots=True)
class GoProgram:
    """One `go build` invocation: a module at a version and the packages of it that become binaries."""

    name: str
    module: str
    """Path of the module; empty when `main` needs nothing but the standard library."""
    version: str
    packages: tuple[str, ...]
    """Import paths below the module (`cmd/x`); each binary is called as the last element. Empty with `main`."""
    tags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    main: str = ""
    """Source of an own `main.go`, for a module without a main package of its own; the binary is called `name`."""
    alone: bool = False
    """Built with the dependencies that its module asks for, because it does not compile with those of the others."""
    binary: str = ""
    """What the binary of the only package is called, where that is not the last element of its path."""
    keep: tuple[tuple[str, str], ...] = ()
    """Files to keep next to the binaries: (path in the module, name)."""

    @property
    def key(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def binaries(self) -> tuple[str, ...]:
        if self.binary:
            return (self.binary,)
        return tuple(p.rsplit("/", 1)[-1] for p in self.packages) or (self.name,)


def environment() -> dict[str, str]:
    """The environment of every `go` call: no cgo, no toolchain download, versions only from the generated go.mod."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod -trimpath -buildvcs=false",
        "GOWORK": "off",
    }


def _json(argv: Sequence[str], cwd: Path) -> dict[str, Any]:
    done = subprocess.run(argv, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def render_go_mod(name: str, modules: Mapping[tuple[str, str], Mapping[str, Any]], staging: Mapping[str, str]) -> str:
    """The go.mod of a module that only builds programs of `modules`.

    `modules` gives for each (path, version) its own go.mod as `go mod edit -json` prints it. Replacements by another
    module are repeated. Those by a folder are published modules too: `staging` gives the version for a prefix of their
    path, any other already has a real version in the `require` lines.
    """
    lines = [f"module modelrelease.dev/build/{name}"]
    if modules:
        newest = max((own["Go"] for own in modules.values()), key=lambda v: [int(x) for x in v.split(".")])
        lines.append(f"go {newest}")
    lines += [f"require {path} {version}" for path, version in modules]
    for own in modules.values():
        for replace in own.get("Replace") or ():
            old, new = replace["Old"], replace["New"]
            at = f" {old['Version']}" if old.get("Version") else ""
            if new.get("Version"):
                lines.append(f"replace {old['Path']}{at} => {new['Path']} {new['Version']}")
            else:
                lines += [
                    f"replace {old['Path']}{at} => {old['Path']} {version}"
                    for prefix, version in staging.items()
                    if old["Path"].startswith(prefix)
                ]
        lines += [f"exclude {e['Path']} {e['Version']}" for e in own.get("Exclude") or ()]
    return "\n".join(lines) + "\n"


def prepare(program: GoProgram, together: Sequence[GoProgram], staging: Mapping[str, str], workdir: Path) -> Path:
    """Write go.mod (and main.go) into `workdir` and return the module's own folder, read-only, in Go's cache.

    The versions of all dependencies are chosen for the programs `together`, so that each dependency is compiled once
    for all of them; that halves the time that the demo's programs take.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if program.main:
        (workdir / "main.go").write_text(program.main)
    if not program.module:
        (workdir / "go.mod").write_text(render_go_mod(program.name, {}, {}))
        return workdir
    own: dict[tuple[str, str], Mapping[str, Any]] = {}
    chosen_with = () if program.alone else together
    for each in dict.fromkeys([*chosen_with, program]):
        if each.module:
            listed = _json(["go", "list", "-m", "-json", f"{each.module}@{each.version}"], workdir)
            own[each.module, each.version] = _json(["go", "mod", "edit", "-json", listed["GoMod"]], workdir)
    module = _json(["go", "mod", "download", "-json", f"{program.module}@{program.version}"], workdir)
    (workdir / "go.mod").write_text(render_go_mod(program.name, own, staging))
    return Path(module["Dir"])


def build_command(program: GoProgram, target: Path) -> list[str]:
    """`go build` of all packages of the program in one call, so that what they share is compiled once."""
    command = ["go", "build", "-ldflags", " ".join(("-s", "-w", *program.ldflags)), "-o", f"{target}/{program.binary}"]
    if program.tags:
        command += ["-tags", ",".join(program.tags)]
    if program.main:
        return [*command, "."]
    return [*command, *(f"{program.module}/{p}" for p in program.packages)]


def prefetch(program: GoProgram, together: Sequence[GoProgram], staging: Mapping[str, str], workdir: Path) -> None:
    """Download what the build will need, while another program keeps the cores busy. Best effort: errors are left
    for the build, which reports them."""
    try:
        prepare(program, together, staging, workdir)
    except BuildError:
        return
    packages = ["."] if program.main else [f"{program.module}/{p}" for p in program.packages]
    argv = ["go", "list", "-deps", *(["-tags", ",".join(program.tags)] if program.tags else []), *packages]
    subprocess.run(argv, cwd=workdir, env=environment(), capture_output=True, check=False)


def keep_files(program: GoProgram, module_dir: Path, target: Path) -> None:
    """Copy the files named in `keep` next to the binaries, writable (Go's module cache is read-only)."""
    for source, name in program.keep:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module_dir / source, target / name)
