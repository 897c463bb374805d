"""The programs of Kubernetes on a local node: their command lines and configuration files.

Pure text: nothing is started or waited for here (`local` and `controlplane` do that). Each entry says why it differs
from a default, since the defaults are what a user's cluster has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.binaries import Binaries
from e2e.cluster.node import NODE_IP, NODE_NAME
from e2e.cluster.pki import Authority, create_authority

SERVICE_CIDR = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
POD_CIDR = "10.244.0.0/24"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "localhost/modelrelease/pause:1"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where etcd and the API server listen."""

    etcd: int = 2379
    etcd_peer: int = 2380
    apiserver: int = 6443


def create_credentials(folder: Path, server: str, address: str) -> Authority:
    """Everything the control plane and its administrator need; `admin.kubeconfig` is for `server`."""
    authority = create_authority(folder)
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    authority.server("apiserver", "kube-apiserver", ["localhost", *services, "127.0.0.1", address, SERVICE_IP])
    authority.client("kubelet-client", "kube-apiserver", "system:masters")
    authority.client("admin", "admin", "system:masters")
    authority.signing_key("sa")
    authority.kubeconfig("admin", server)
    return authority


def add_node_credentials(authority: Authority, server: str) -> None:
    """What the controllers, the scheduler and the node's agents need on top."""
    authority.server("kubelet-server", NODE_NAME, [NODE_NAME, NODE_IP, "127.0.0.1"])
    authority.client("controllers", "system:kube-controller-manager")
    authority.client("scheduler", "system:kube-scheduler")
    authority.client("kubelet", f"system:node:{NODE_NAME}", "system:nodes")
    authority.client("proxy", "system:kube-proxy")
    for name in ("controllers", "scheduler", "kubelet", "proxy"):
        authority.kubeconfig(name, server)


def etcd(binaries: Binaries, state: Path, ports: Ports) -> list[str]:
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    return [
        str(binaries.path("etcd")),
        f"--data-dir={state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # the data need not survive a power cut, and tests should not wait for a disk
        "--log-level=warn",
    ]


def apiserver(
    binaries: Binaries, pki: Path, ports: Ports, bind: str, advertise: str, extra: Sequence[str] = ()
) -> list[str]:
    return [
        str(binaries.path("kube-apiserver")),
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        f"--secure-port={ports.apiserver}",
        f"--bind-address={bind}",
        f"--advertise-address={advertise}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-account-key-file={pki / 'sa.pub'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allow-privileged=true",
        "--profiling=false",
        *extra,
    ]


def controller_manager(binaries: Binaries, pki: Path) -> list[str]:
    return [
        str(binaries.path("kube-controller-manager")),
        f"--kubeconfig={pki / 'controllers.kubeconfig'}",
        "--leader-elect=false",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        "--use-service-account-credentials=true",
        "--controllers=*,-node-ipam-controller,-cloud-node-lifecycle-controller",
        "--bind-address=127.0.0.1",
        "--kube-api-qps=100",
        "--kube-api-burst=200",
    ]


def scheduler(binaries: Binaries, pki: Path) -> list[str]:
    return [
        str(binaries.path("kube-scheduler")),
        f"--kubeconfig={pki / 'scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--kube-api-qps=100",
        "--kube-api-burst=200",
    ]


def kubelet(binaries: Binaries, state: Path, cgroup: str) -> list[str]:
    pki = state / "pki"
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,  # still common on machines that run tests
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [NODE_IP],  # nobody answers there, at once; without an entry each pod gets a warning event
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "imageGCHighThresholdPercent": 100,  # an image that was loaded must not be collected on a full disk
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi"},
        "nodeStatusUpdateFrequency": "5s",
        "registryPullQPS": 0,
        "serializeImagePulls": False,
    }
    path = _write(state / "kubelet.json", config)
    return [
        str(binaries.path("kubelet")),
        f"--kubeconfig={pki / 'kubelet.kubeconfig'}",
        f"--config={path}",
        "--root-dir=/var/lib/kubelet",
        f"--node-ip={NODE_IP}",
        f"--hostname-override={NODE_NAME}",
    ]


def kube_proxy(binaries: Binaries, state: Path) -> list[str]:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(state / "pki" / "proxy.kubeconfig")},
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE_NAME,
        # All zero: conntrack limits belong to the whole machine and stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": ["primary"],
        "nftables": {"minSyncPeriod": "0s"},  # tests measure how fast endpoints change
    }
    return [str(binaries.path("kube-proxy")), f"--config={_write(state / 'proxy.json', config)}"]


def containerd(state: Path, snapshotter: str) -> list[str]:
    (state / "cni").mkdir()
    network = {
        "cniVersion": "0.4.0",
        "name": "modelrelease",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "mrpods0",
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam",
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }
    _write(state / "cni" / "10-modelrelease.conflist", network)
    config = f"""version = 2
root = "{state}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  netns_mounts_under_state_dir = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
    (state / "containerd.toml").write_text(config)
    return ["containerd", "-c", str(state / "containerd.toml")]


def _write(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(config, indent=1))
    return path
