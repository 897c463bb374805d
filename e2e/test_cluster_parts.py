"""The parts of `e2e.cluster` that need no cluster: what is chosen, rendered, built and kept."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from e2e.cluster import binaries, kind, selection
from e2e.cluster.existing import ExistingCluster
from e2e.cluster.gobuild import BuildError, GoProgram, render_go_mod
from e2e.cluster.interface import ClusterError
from e2e.cluster.local import LocalCluster
from e2e.cluster.progress import Progress, span

HELLO = 'package main\n\nfunc main() { println("hello") }\n'


def test_render_go_mod_when_modules_replace_folders_then_staging_is_pinned_and_others_keep_their_version() -> None:
    kubernetes = {
        "Go": "1.26.0",
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {
                "Old": {"Path": "example.org/old", "Version": "v1.0.0"},
                "New": {"Path": "example.org/new", "Version": "v2.0.0"},
            },
        ],
    }
    etcd = {
        "Go": "1.9",
        "Replace": [{"Old": {"Path": "go.etcd.io/etcd/api/v3"}, "New": {"Path": "../api"}}],
        "Exclude": [{"Path": "example.org/bad", "Version": "v1.2.3"}],
    }
    modules = {("k8s.io/kubernetes", "v1.36.3"): kubernetes, ("go.etcd.io/etcd/server/v3", "v3.7.3"): etcd}
    assert render_go_mod("both", modules, {"k8s.io/": "v0.36.3"}).splitlines() == [
        "module modelrelease.dev/build/both",
        "go 1.26.0",
        "require k8s.io/kubernetes v1.36.3",
        "require go.etcd.io/etcd/server/v3 v3.7.3",
        "replace k8s.io/api => k8s.io/api v0.36.3",
        "replace example.org/old v1.0.0 => example.org/new v2.0.0",
        "exclude example.org/bad v1.2.3",
    ]


@pytest.mark.parametrize(
    ("environment", "engine", "expected"),
    [
        pytest.param(
            {"MODELRELEASE_CLUSTER": "local"}, "docker", LocalCluster, id="local is asked for beside an engine"
        ),
        pytest.param({}, "docker", kind.KindCluster, id="an engine answers"),
        pytest.param({}, None, LocalCluster, id="no engine, root on Linux"),
        pytest.param(
            {"MODELRELEASE_CLUSTER": "existing", "MODELRELEASE_CONTEXT": "lab"},
            None,
            ExistingCluster,
            id="context named",
        ),
    ],
)
def test_select_cluster_takes_what_was_asked_for_else_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], engine: str | None, expected: type
) -> None:
    monkeypatch.setattr(kind, "engine", lambda: engine)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert type(selection.select_cluster(environment)) is expected


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        pytest.param(
            {"MODELRELEASE_CLUSTER": "existing"}, "needs MODELRELEASE_CONTEXT", id="existing without a context"
        ),
        pytest.param({"MODELRELEASE_CLUSTER": "gke"}, "must be local, kind or existing", id="unknown provider"),
        pytest.param({}, "no cluster is possible here", id="neither engine nor root"),
    ],
)
def test_select_cluster_when_there_is_no_safe_choice_then_it_refuses(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    monkeypatch.setattr(kind, "engine", lambda: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=says):
        selection.select_cluster(environment)


def test_existing_when_started_without_an_own_kubeconfig_then_the_users_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    cluster = ExistingCluster("lab")
    with pytest.raises(ClusterError, match="no context 'lab'"), cluster:
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MODELRELEASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def catalogue(monkeypatch: pytest.MonkeyPatch, source: str, version: str = "1") -> None:
    program = GoProgram(name="hello", module="", version=version, packages=(), main=source)
    monkeypatch.setattr(binaries, "CATALOGUE", (program, *binaries.CATALOGUE))


def test_ensure_when_built_then_kept_by_version_and_a_bump_builds_again(
    monkeypatch: pytest.MonkeyPatch, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    catalogue(monkeypatch, HELLO)
    assert binaries.ensure(["hello"]).path("hello") == cache / "hello-1" / "hello"
    assert "[1/1] hello 1 in" in capfd.readouterr().err
    binaries.ensure(["hello"])
    assert capfd.readouterr().err == ""
    catalogue(monkeypatch, HELLO, version="2")
    binaries.ensure(["hello"])
    assert sorted(p.name for p in cache.glob("hello-*")) == ["hello-1", "hello-2"]


def test_ensure_when_the_compiler_refuses_then_it_says_why_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    catalogue(monkeypatch, "package main\n\nfunc main() { nonsense }\n")
    with pytest.raises(BuildError, match="undefined: nonsense") as caught:
        binaries.ensure(["hello"])
    assert str(cache / "logs" / "hello-1.log") in str(caught.value)
    assert sorted(p.name for p in cache.iterdir()) == ["lock", "logs"]


def test_ensure_when_the_disk_is_nearly_full_then_it_refuses_before_building(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    catalogue(monkeypatch, HELLO)
    usage = shutil.disk_usage("/")._replace(free=1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(BuildError, match=r"0\.0 GiB are free"):
        binaries.ensure(["hello"])


def test_progress_when_not_a_terminal_then_plain_lines_for_begin_end_and_failure() -> None:
    out = io.StringIO()

    def work() -> None:
        with Progress(2, out) as progress:
            with progress.item("first", "a, b"):
                pass
            with progress.item("second"):
                raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert out.getvalue().splitlines() == [
        "[1/2] first (a, b): 0s, 0s in all",
        "[1/2] first in 0s",
        "[2/2] second: 0s, 0s in all",
        "[2/2] second failed after 0s",
    ]


def test_span_reads_as_minutes_from_sixty_seconds_on() -> None:
    assert [span(59.9), span(60), span(187)] == ["59s", "1m00s", "3m07s"]
