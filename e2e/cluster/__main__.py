"""python -m e2e.cluster: clusters by hand.

binaries [NAME...]   build what is missing (all that the demo needs, or the programs named)
up [NAME]            start a local cluster that stays until `down`
down [NAME]          end it, and remove all of it
status               which local clusters are running, and what runs in them
kubeconfig [NAME]    print the path of its kubeconfig (valid in its network: see `run`, `shell`)
run [NAME] -- CMD    run a command in the network of NAME if that is up; else in that of a new cluster,
                     which ends with the command
shell [NAME]         a shell in the network of a cluster that is up, with kubectl on the PATH
load ARCHIVE [NAME]  make the images of an archive known to it
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from e2e.cluster import binaries, keeper
from e2e.cluster.agent import Agent
from e2e.cluster.debian import ensure_debian_packages
from e2e.cluster.gobuild import BuildError
from e2e.cluster.interface import Cluster, ClusterError
from e2e.cluster.launch import state_root
from e2e.cluster.local import LocalCluster
from e2e.cluster.selection import select_cluster

DEFAULT_NAME = "dev"


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Arguments, and the command after `--`."""
    own, command = list(argv), []
    if "--" in own:
        at = own.index("--")
        own, command = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("binaries").add_argument("programs", nargs="*", default=list(binaries.DEMO))
    for name in ("up", "down", "kubeconfig", "shell"):
        commands.add_parser(name).add_argument("name", nargs="?", default=DEFAULT_NAME)
    commands.add_parser("run").add_argument("name", nargs="?")
    commands.add_parser("status")
    load = commands.add_parser("load")
    load.add_argument("archive", type=os.path.abspath)
    load.add_argument("name", nargs="?", default=DEFAULT_NAME)
    arguments = parser.parse_args(own)
    if arguments.command == "run" and not command:
        parser.error("run needs a command after --")
    return arguments, command


def running_clusters() -> list[LocalCluster]:
    found = []
    for folder in sorted(state_root().glob("*/")):
        node = keeper.Node.load(folder)
        if node is not None and node.cgroup and keeper.is_keeper(node.keeper, folder):
            found.append(LocalCluster.running(folder))
    return found


def running_cluster(name: str) -> LocalCluster:
    for cluster in running_clusters():
        if cluster.name == name:
            return cluster
    raise ClusterError(f"no cluster {name} is running; start it with: python -m e2e.cluster up {name}")


def execute(cluster: Cluster, command: Sequence[str]) -> int:
    """Run a command in the cluster's network on this terminal; its exit code, as a shell gives it."""
    process = subprocess.Popen(cluster.enter(command), env={**os.environ, **cluster.environment()})
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the command got it too and decides
            continue
        return code if code >= 0 else 128 - code


def run(name: str | None, command: Sequence[str]) -> int:
    if name is not None:
        return execute(running_cluster(name), command)
    # Also on SIGTERM the cluster ends in good order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with select_cluster(os.environ, name=f"run-{os.getpid()}") as cluster:
        return execute(cluster, command)


def up(name: str) -> int:
    began = time.monotonic()
    cluster = LocalCluster(name, detached=True)
    cluster.start()
    print(f"cluster {name} is Ready after {time.monotonic() - began:.1f} s")
    print(f"  python -m e2e.cluster shell {name}    python -m e2e.cluster down {name}")
    return 0


def status() -> int:
    clusters = running_clusters()
    if not clusters:
        print("no cluster is running")
    for cluster in clusters:
        print(f"{cluster.name}: {cluster.state}")
        for program, code in Agent(cluster.state).ask({"do": "list"})["programs"].items():
            print(f"  {program}: {'running' if code is None else f'ended with {code}'}")
    return 0


def main(argv: Sequence[str]) -> int:
    arguments, command = parse(argv)
    match arguments.command:
        case "binaries":
            binaries.ensure(arguments.programs)
            ensure_debian_packages()
        case "up":
            return up(arguments.name)
        case "down":
            LocalCluster(arguments.name).stop()
        case "status":
            return status()
        case "kubeconfig":
            print(running_cluster(arguments.name).kubeconfig)
        case "load":
            running_cluster(arguments.name).load_image(arguments.archive)
        case "run":
            return run(arguments.name, command)
        case "shell":
            return execute(running_cluster(arguments.name), [os.environ.get("SHELL", "/bin/bash")])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ClusterError, BuildError) as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
