"""`make demo`: the main job on real parts, told in the terminal while it happens.

Brings everything up, plays the scenes under constant traffic with `kubectl get mr -w` running beside, says what was
measured, and takes everything down again, also after Ctrl-C or an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn

from e2e import images
from e2e.cluster import binaries
from e2e.cluster.debian import ensure_debian_packages
from e2e.cluster.fixtures import session_cluster
from e2e.cluster.interface import Cluster, tool
from e2e.cluster.selection import default_provider
from e2e.scenes import REQUESTS_PER_S, SCENES, SceneError, Theatre
from e2e.stack import TEAM_NAMESPACE, Stack

_BOLD, _DIM, _CYAN, _GREEN, _RED, _PLAIN = (
    ("\033[1m", "\033[2m", "\033[36m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 6
)
_INTRODUCTION = """modelrelease: the main job on real parts.

What happens now: a real Kubernetes, a Gateway API gateway, Prometheus, an MLflow server with five trained models and
the operator in a pod come up in namespaces of their own; then models are released under {rate} requests a second, and
you see what `kubectl get modelrelease -w` shows. Nothing outside is touched; Ctrl-C takes everything down.

{how_long}
"""

_COLD = """The first time this builds Kubernetes and its companions from source: up to 20 minutes on 2 cores. They stay
under ~/.cache/modelrelease, and the next time takes about 5 minutes."""
_WARM = "The programs are built already: this takes about 5 minutes."
_WIDTHS = (7, 7, 9, 11, 10, 6, 74)
INSIDE = "MODELRELEASE_DEMO_BEGAN"
"""Set for the part that runs in the cluster's network, to the time at which the demo began."""


def main() -> int:
    """0 when every scene showed what it must."""
    if INSIDE in os.environ:
        with session_cluster() as cluster:
            return _play(cluster)
    cold = default_provider() == "local" and not all(map(binaries.available().has, binaries.DEMO))
    print(_INTRODUCTION.format(rate=REQUESTS_PER_S, how_long=_COLD if cold else _WARM), flush=True)
    enter("e2e.demo")


def enter(module: str) -> NoReturn:
    """Build what is missing, then go on as this module's main in the network of a cluster that ends with it."""
    began = time.time()
    # whatever needs the package registries comes first: a local cluster has a network of its own
    local = default_provider() == "local"
    if local:
        ensure_debian_packages()
    with ThreadPoolExecutor() as beside:  # images wait for downloads and disks most of the time, compilers do not
        building = [beside.submit(images.operator), beside.submit(images.model_server)]
        if local:
            binaries.ensure(list(binaries.DEMO))
        for image in building:
            image.result()
    argv = [sys.executable, "-m", "e2e.cluster", "run", "--", sys.executable, "-m", module]
    sys.stdout.flush()
    os.environ[INSIDE] = str(began)
    os.execv(sys.executable, argv)


def _play(cluster: Cluster) -> int:
    began = float(os.environ[INSIDE])
    stack = Stack(cluster, lambda text: print(f"{_DIM}{text}{_PLAIN}", flush=True))
    try:
        stack.say(f"cluster {cluster.name} is ready")
        stack.up()
        theatre = Theatre(stack, lambda text: print(f"  {text}", flush=True))
        with _watching(cluster):
            try:
                for number, (title, scene) in enumerate(SCENES, start=1):
                    print(f"\n{_BOLD}{number}. {title}{_PLAIN}   {_DIM}{time.time() - began:.0f}s", flush=True)
                    print(f"  {scene.__doc__}{_PLAIN}", flush=True)
                    scene(theatre)
                    print(f"  {_GREEN}as it must be{_PLAIN}; {theatre.traffic.describe()}", flush=True)
                failures = theatre.failures()
            except SceneError as error:
                print(f"\n{_RED}not as it must be:{_PLAIN} {error}", file=sys.stderr)
                return 1
            finally:
                theatre.traffic.stop()
        print(f"\n{_BOLD}Events of the release{_PLAIN}")
        for reason, note in stack.events():
            print(f"  {reason:<18} {note[:150]}")
        print(f"\n{_BOLD}Measured{_PLAIN}")
        theatre.measured["failed requests that no bad model answered"] = len(failures)
        theatre.measured["seconds in all"] = round(time.time() - began)
        for what, value in theatre.measured.items():
            print(f"  {what}: {value}")
        for failure in failures[:5]:
            print(f"  {_RED}{failure}{_PLAIN}")
        return 1 if failures else 0
    finally:
        stack.down()


@contextmanager
def _watching(cluster: Cluster) -> Iterator[None]:
    """`kubectl get modelrelease -w`, its lines among ours."""
    argv = [tool("kubectl"), "--kubeconfig", str(cluster.kubeconfig), "get", "modelrelease", "-n", TEAM_NAMESPACE, "-w"]
    process = subprocess.Popen(
        cluster.enter(argv), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None, "it is a pipe"
    lines = process.stdout

    def copy() -> None:
        last: list[str] = []
        for line in lines:
            # kubectl aligns each row of a watch by itself, and repeats it when something beside the columns changed
            cells = re.split(r"\s{2,}", line.strip())
            if len(cells) > 2 and cells[:-1] != last:
                last = cells[:-1]
                row = "  ".join(f"{cell[:width]:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))
                print(f"  {_CYAN}{row.rstrip()}{_PLAIN}", flush=True)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
        thread.join(timeout=5)


if __name__ == "__main__":
    sys.exit(main())
