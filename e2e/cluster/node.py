"""The first process of a local node: it makes the namespaces a machine, then starts and reaps the programs on it.

Runs as PID 1 of the namespaces that `keeper` made. It is told what to do over the Unix socket `STATE/node.sock`, one
JSON object a connection, so that programs can be started and stopped alike from outside the namespaces and from
inside. The other end of the socket is `Agent` in `agent`; neither knows Kubernetes.

One thread: requests are short, and all waiting is done by the caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NODE_NAME = "node1"
NODE_IP = "172.31.99.1"
BRIDGE = "mrnode0"

KUBELET_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""Settings of the whole machine that a kubelet makes. It is shown these values, so that it does not."""


def _do(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def set_up_machine(state: Path) -> None:
    """Mounts, names and network of the node. Runs before anything else is in the namespaces."""
    _do("mount", "--make-rshared", "/")
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in ("/run/netns", "/run/lock"):
        Path(folder).mkdir()
    for name, point in (("kubelet", "/var/lib/kubelet"), ("pod-logs", "/var/log/pods")):
        (state / name).mkdir()
        _do("mount", "--bind", str(state / name), point)
    for point in ("/var/lib/cni", "/var/log/containers"):
        _do("mount", "-t", "tmpfs", "tmpfs", point)
    _show(state, "hosts", f"127.0.0.1 localhost\n{NODE_IP} {NODE_NAME}\n", Path("/etc/hosts"))
    # Nothing serves names here; without this, look-ups wait seconds for the machine's own unreachable resolver.
    _show(state, "resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", Path("/etc/resolv.conf"))
    for key, value in KUBELET_SETTINGS.items():
        _show(state, key.replace("/", "."), f"{value}\n", Path("/proc/sys") / key)
    socket.sethostname(NODE_NAME)
    _do("ip", "link", "set", "lo", "up")
    _do("ip", "link", "add", BRIDGE, "type", "bridge")
    _do("ip", "addr", "add", f"{NODE_IP}/24", "dev", BRIDGE)
    _do("ip", "link", "set", BRIDGE, "up")
    # A ClusterIP needs some route before it is translated; packets that are not end here.
    _do("ip", "route", "add", "default", "dev", BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with contextlib.suppress(FileNotFoundError):  # absent where bridge netfilter is not loaded
        Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")


def _show(state: Path, name: str, content: str, target: Path) -> None:
    """Put a file over `target` for this mount namespace only."""
    if not target.exists() and str(target).startswith("/proc"):
        return
    target = target.resolve()
    if not target.exists():  # behind a link into /run, which is new here
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    source = state / "shown" / name
    source.parent.mkdir(exist_ok=True)
    source.write_text(content)
    _do("mount", "--bind", str(source), str(target))


@dataclass(slots=True)
class Running:
    """One program that was asked for."""

    process: subprocess.Popen[bytes]
    exit_code: int | None = None


class Supervisor:
    """Starts programs, gives out their state, and reaps every orphan of the namespace."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._programs: dict[str, Running] = {}

    def reap(self) -> None:
        """Collect all ended children, also those that were orphaned to PID 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for program in self._programs.values():
                if program.process.pid == pid:
                    program.exit_code = program.process.returncode = os.waitstatus_to_exitcode(status)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        match request:
            case {"do": "spawn", "name": str(name), "argv": [*argv], "env": dict(env), "cwd": str(cwd)}:
                return self._spawn(name, [str(a) for a in argv], env, cwd)
            case {"do": "signal", "name": str(name), "number": int(number)}:
                program = self._programs[name]
                if program.exit_code is None:
                    # Its whole session, so that what it started ends too.
                    os.killpg(program.process.pid, number)
                return {}
            case {"do": "status", "name": str(name)}:
                program = self._programs[name]
                return {"exit_code": program.exit_code, "pid": program.process.pid}
            case {"do": "list"}:
                return {"programs": {n: p.exit_code for n, p in self._programs.items()}}
            case {"do": "fetch", "url": str(url), "cert": str(cert), "timeout_s": timeout_s}:
                return _fetch(url, Path(cert), float(timeout_s))
        return {"error": f"not understood: {request}"}

    def _spawn(self, name: str, argv: list[str], env: dict[str, str], cwd: str) -> dict[str, Any]:
        earlier = self._programs.get(name)
        if earlier is not None and earlier.exit_code is None:
            return {"error": f"{name} is running already"}
        with (self._state / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._programs[name] = Running(process)
        return {"pid": process.pid}


def _fetch(url: str, cert: Path, timeout_s: float) -> dict[str, Any]:
    """GET `url` in this network; with the client certificate `cert` (`.crt` and `.key` beside it) unless empty."""
    import ssl  # slow to import, and not needed for the machine's set-up
    import urllib.error
    import urllib.request

    context = None
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=str(cert.parent / "ca.crt"))
        context.load_cert_chain(f"{cert}.crt", f"{cert}.key")
    try:
        with urllib.request.urlopen(url, timeout=timeout_s, context=context) as response:
            return {"code": response.status, "body": response.read(2**20).decode(errors="replace")}
    except urllib.error.HTTPError as error:
        return {"code": error.code, "body": error.read(2**16).decode(errors="replace")}
    except OSError as error:
        return {"code": 0, "body": str(error)}


def serve(state: Path, supervisor: Supervisor) -> None:
    """Answer requests and reap until the process is killed."""
    signal_reader, signal_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(signal_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # of PID 1 that means: nothing happens, and children inherit no deafness
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    scratch = state / "node.sock.new"
    listener.bind(str(scratch))
    listener.listen(16)
    scratch.rename(state / "node.sock")
    while True:
        readable, _, _ = select.select([listener.fileno(), signal_reader], [], [])
        if signal_reader in readable:
            os.read(signal_reader, 4096)
        supervisor.reap()
        if listener.fileno() in readable:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError, ValueError):
                connection.settimeout(5)
                _converse(connection, supervisor)


def _converse(connection: socket.socket, supervisor: Supervisor) -> None:
    with connection.makefile("rw") as stream:
        line = stream.readline()
        if not line:
            return
        try:
            answer = supervisor.answer(json.loads(line))
        except (OSError, KeyError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        stream.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    where = Path(sys.argv[1])
    if json.loads((where / "keeper.json").read_text())["whole_node"]:
        set_up_machine(where)
    serve(where, Supervisor(where))
