"""Starting and ending a node's processes by way of its keeper, and waiting for programs on it.

Shared by the two kinds of local cluster, the whole node (`local`) and the bare control plane (`controlplane`); knows
nothing of Kubernetes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from e2e.cluster import keeper
from e2e.cluster.agent import Program
from e2e.cluster.interface import ClusterError, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
LONGEST_STATE_PATH = 80
"""Characters; the paths of Unix sockets below the state folder must stay within 107."""


def state_root() -> Path:
    """`$MODELRELEASE_STATE`, else a folder below the temporary one; each cluster has a folder in it."""
    return Path(os.environ.get("MODELRELEASE_STATE") or Path(tempfile.gettempdir()) / "modelrelease")


def launch(state: Path, *, whole_node: bool, detached: bool) -> tuple[subprocess.Popen[bytes], keeper.Node]:
    """Start a keeper and with it a node; returns when the node takes requests.

    Unless `detached`, the node ends with this process. Raises `ClusterError` when a node with this state is running.
    """
    if len(str(state)) > LONGEST_STATE_PATH:
        raise ClusterError(f"the state folder {state} has too long a path; set MODELRELEASE_STATE to a shorter one")
    earlier = keeper.Node.load(state)
    if earlier is not None and keeper.is_keeper(earlier.keeper, state):
        raise ClusterError(f"a cluster is running at {state}; end it with: python -m e2e.cluster down {state.name}")
    keeper.remove_state(state)
    (state / "logs").mkdir(parents=True)
    logs_to = os.environ.get("MODELRELEASE_LOGS")
    keeper.Plan(
        parent=None if detached else os.getpid(),
        whole_node=whole_node,
        logs_to=str(Path(logs_to) / state.name) if logs_to else None,
    ).save(state)
    log = state / "logs" / "keeper.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "e2e.cluster.keeper", str(state)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    node = None

    def ready() -> bool:
        nonlocal node
        node = keeper.Node.load(state) if (state / "node.sock").exists() else None
        return node is not None or process.poll() is not None

    with log.open() as messages:  # opened before the keeper may remove it
        try:
            wait_until("the node's first process", ready, timeout_s=20, interval_s=0.01)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if node is None:
            raise ClusterError(f"the node could not be set up:\n{messages.read()[-3000:]}")
    return process, node


def end(state: Path, process: subprocess.Popen[bytes] | None) -> None:
    """Ask the keeper to end the node, and wait until all is removed. Does nothing when it is not running."""
    node = keeper.Node.load(state)
    if process is None and node is not None and keeper.is_keeper(node.keeper, state):
        os.kill(node.keeper, signal.SIGTERM)
        wait_until(f"the end of cluster {state.name}", lambda: not keeper.is_keeper(node.keeper, state), timeout_s=30)
    if process is not None:
        process.terminate()
        process.wait()
    keeper.remove_state(state)


def wait_for(what: str, check: Callable[[], object], *programs: Program, timeout_s: float = 60) -> None:
    """Wait until `check` is true; raises `ClusterError`, with the end of its log, as soon as a program has ended."""

    def checked() -> object:
        for program in programs:
            code = program.exit_code()
            if code is not None:
                raise ClusterError(f"{program.name} ended with {code} while waiting for {what}:\n{program.tail()}")
        return check()

    try:
        wait_until(what, checked, timeout_s, interval_s=0.05)
    except ClusterError as error:
        if not str(error).startswith(what):
            raise
        tails = "\n".join(f"--- {program.log}\n{program.tail(8)}" for program in programs)
        raise ClusterError(f"{error}\n{tails}") from error
