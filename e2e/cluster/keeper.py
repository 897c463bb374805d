"""The process that outlives whoever started a local cluster, and leaves the machine as it was.

It starts the node in namespaces of its own, waits until its parent is gone, it is asked to end (SIGTERM) or the node
ends by itself, and then kills the node, removes the cgroups and the state folder. It is started in a session of its
own, so Ctrl-C and closed terminals do not reach it; the parent's death does, by a pidfd, even by SIGKILL.

The chain of deaths, should this process itself be killed: the kernel kills `unshare` (PR_SET_PDEATHSIG), that kills the
node's PID 1 (--kill-child), and with PID 1 every process, mount, interface and packet rule of the namespaces goes. What
is left then, empty cgroups and files, is swept when the next cluster starts.

Run as `python -m e2e.cluster.keeper STATE`, with `STATE/keeper.json` written before (see `Plan`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PR_SET_PDEATHSIG = 1
NODE_FILE = "node.json"
MOUNT_POINTS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods")
"""Folders that must exist to be mounted over inside the node."""
LEDGER = Path("/run/lock/modelrelease-mount-points")
"""Which of them were made for that, one a line; each keeper holds a shared lock on it as long as it lives."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the keeper is told."""

    parent: int | None
    """Process whose end ends the cluster; None to live until SIGTERM."""
    whole_node: bool
    """A node with network, mounts and cgroups of its own; else only a process tree on the machine's network."""
    logs_to: str | None
    """Folder that gets the log files before the state is removed."""

    def save(self, state: Path) -> None:
        (state / "keeper.json").write_text(json.dumps(asdict(self)))


@dataclass(frozen=True, slots=True)
class Node:
    """What the keeper tells: the node's first process as this machine sees it."""

    keeper: int
    pid: int
    pid_namespace: str
    cgroup: str
    """Name below each cgroup hierarchy; empty without `whole_node`."""

    @staticmethod
    def load(state: Path) -> Node | None:
        """None until the node has started, and after it was removed."""
        try:
            return Node(**json.loads((state / NODE_FILE).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None


def is_keeper(pid: int, state: Path) -> bool:
    """Whether process `pid` is the keeper of `state`; a reused process id is not."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"e2e.cluster.keeper" in argv and str(state).encode() in argv


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the thread that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def cgroup_parents() -> list[Path]:
    """The folders below which a cgroup is made: the one v2 hierarchy, or each that is mounted beside v1 ones."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [p for p in CGROUPS.iterdir() if p.is_dir() and not p.is_symlink()]


def cgroup_name(pid: int) -> str:
    """Unique on the machine; the process id is only meaningful together with its namespace."""
    namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return f"modelrelease-{namespace}-{pid}"


def make_cgroups(name: str) -> None:
    for parent in cgroup_parents():
        (parent / name).mkdir(exist_ok=True)
        if parent == CGROUPS:
            for controller in (CGROUPS / "cgroup.controllers").read_text().split():
                with contextlib.suppress(OSError):
                    (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")


def remove_cgroups(name: str, timeout_s: float = 10.0) -> None:
    """Remove the cgroups `name` and all below; the kernel says busy for a moment while their processes die."""
    deadline = time.monotonic() + timeout_s
    for parent in cgroup_parents():
        while (parent / name).is_dir() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(parent / name, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            if (parent / name).is_dir():
                time.sleep(0.05)


def sweep() -> None:
    """Remove cgroups of clusters whose keeper was killed; those of other process id namespaces are not judged."""
    prefix = cgroup_name(0)[:-1]
    for parent in cgroup_parents():
        for folder in parent.glob(f"{prefix}*"):
            keeper = folder.name.removeprefix(prefix)
            try:
                alive = b"e2e.cluster.keeper" in Path(f"/proc/{keeper}/cmdline").read_bytes()
            except FileNotFoundError:
                alive = False
            if not alive:
                remove_cgroups(folder.name, timeout_s=1.0)


@contextlib.contextmanager
def mount_points() -> Iterator[None]:
    """Make the missing ones; when the last keeper ends, it removes those that were made.

    Not earlier: to remove a folder that is a mount point in another namespace takes the mount away there.
    """
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    with LEDGER.open("a+") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_SH)
        for point in MOUNT_POINTS:
            if not Path(point).is_dir():
                Path(point).mkdir(parents=True, exist_ok=True)
                ledger.write(f"{point}\n")
        ledger.flush()
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):  # another keeper lives
                fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ledger.seek(0)
                for point in set(ledger.read().split()):
                    with contextlib.suppress(OSError):
                        Path(point).rmdir()
                ledger.truncate(0)


def unshare_command(state: Path, whole_node: bool) -> list[str]:
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if whole_node:
        namespaces += ["--net", "--ipc", "--uts"]
    elif os.geteuid() != 0:
        namespaces += ["--user", "--map-root-user"]
    return ["unshare", *namespaces, sys.executable, "-m", "e2e.cluster.node", str(state)]


def first_child(pid: int, timeout_s: float = 5.0) -> int | None:
    """The process that `unshare` forked: PID 1 of the new namespace."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            return None
        if children:
            return int(children[0])
        time.sleep(0.005)
    return None


def signals_as_file() -> int:
    """Turn requests to stop into a readable file descriptor, so that none cuts the tidying short."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def wait_for_end(node: int, parent: int | None, signals: int) -> None:
    """Return when the node or the parent has ended, or a signal asked to stop."""
    watched = [signals, os.pidfd_open(node)]
    if parent is not None:
        try:
            watched.append(os.pidfd_open(parent))
        except ProcessLookupError:
            return
        if os.getppid() != parent:  # it ended, and its id may already be another process
            return
    select.select(watched, [], [])


def keep(state: Path) -> None:
    signals = signals_as_file()
    plan = Plan(**json.loads((state / "keeper.json").read_text()))
    cgroup = cgroup_name(os.getpid()) if plan.whole_node else ""
    unshare: subprocess.Popen[bytes] | None = None
    stack = contextlib.ExitStack()
    try:
        if plan.whole_node:
            sweep()
            make_cgroups(cgroup)
            stack.enter_context(mount_points())
        unshare = subprocess.Popen(
            unshare_command(state, plan.whole_node),
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
        pid = first_child(unshare.pid)
        if pid is None:
            return
        node = Node(os.getpid(), pid, os.readlink(f"/proc/{pid}/ns/pid"), cgroup)
        scratch = state / f"{NODE_FILE}.new"
        scratch.write_text(json.dumps(asdict(node)))
        scratch.rename(state / NODE_FILE)
        wait_for_end(pid, plan.parent, signals)
    finally:
        if unshare is not None:
            unshare.kill()
            unshare.wait()
        if cgroup:
            remove_cgroups(cgroup)
        stack.close()
        if plan.logs_to:
            shutil.copytree(state / "logs", plan.logs_to, dirs_exist_ok=True)
        remove_state(state)


def remove_state(state: Path) -> None:
    """Remove the folder; the last processes may still be writing into it for a moment."""
    for _ in range(50):
        shutil.rmtree(state, ignore_errors=True)
        if not state.exists():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
