"""The Debian packages that a local node and image builds need, installed when a command is missing.

They come from the distribution because they are old friends of the kernel, not of Kubernetes: their versions need not
be ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from e2e.cluster.interface import ClusterError

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
}
"""What shows that a package is there (a command, or the path of a file) -> the package."""


def missing_packages() -> list[str]:
    """Packages whose command is not on this machine."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return [
        package
        for sign, package in PACKAGES.items()
        if not (Path(sign).exists() if sign.startswith("/") else shutil.which(sign, path=search))
    ]


def ensure_debian_packages() -> None:
    """Install what is missing. Raises `ClusterError` when something is missing and cannot be installed here."""
    missing = missing_packages()
    if not missing:
        return
    by_hand = f"apt-get install {' '.join(missing)}"
    if not shutil.which("apt-get"):
        raise ClusterError(f"missing: {', '.join(missing)}; this is no Debian, so install their like by hand")
    if os.geteuid() != 0:
        raise ClusterError(f"missing: {', '.join(missing)}; run as root: {by_hand}")
    print(f"installing {' '.join(missing)}", flush=True)
    for argv in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]):
        done = subprocess.run(
            argv, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(argv)} failed: {(done.stderr or done.stdout)[-2000:]}\ntry: {by_hand}")
    still = missing_packages()
    if still:
        raise ClusterError(f"installed, but still not found: {', '.join(still)}")
