"""The one node: bridge, containerd, kubelet and kube-proxy."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from harness import pki
from harness.kubectl import Kubectl
from harness.processes import start, wait_until
from harness.settings import BRIDGE, CONTAINERD, LOGS, NETWORK, NODE_IP, POD_CIDR, REGISTRY, STATE

_SYSCTLS = {"net/ipv4/ip_forward": "1"}
# What kube-proxy (node ports on 127.0.0.1) and the kubelet set by themselves.
_SET_BY_THEM = (
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_PROCESSORS = "6"
# What environments ask for whose rule is two of each, on nodes of a cloud.
_OF_A_CLOUD = {"cpu": "24", "memory": "64Gi"}
_SAVED = STATE / "sysctls.json"
_CNI = STATE / "cni"

_CONTAINERD = f"""\
version = 2
root = "{STATE}/containerd"
state = "{STATE}/containerd-run"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  # Without CAP_SYS_RESOURCE no process may lower its score: every sandbox would fail.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{_CNI}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{STATE}/runc"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{STATE}/hosts"
"""
_HOSTS = f"""\
# Whatever registry a name belongs to, its bytes come from here.
server = "http://{REGISTRY}"
[host."http://{REGISTRY}"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
"""


def create_bridge() -> None:
    """Make the bridge first: its address is the node's."""
    _SAVED.write_text(json.dumps({name: Path("/proc/sys", name).read_text() for name in (*_SYSCTLS, *_SET_BY_THEM)}))
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{NODE_IP}/16", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    for name, value in _SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)


def restore_sysctls() -> None:
    """Give the machine back the values that it had."""
    if _SAVED.exists():
        for name, value in json.loads(_SAVED.read_text()).items():
            Path("/proc/sys", name).write_text(value)


def start_node(binaries: dict[str, Path], kubectl: Kubectl, small: bool) -> None:
    """Start containerd, kubelet and kube-proxy, and wait until the node is Ready."""
    _start_containerd()
    config = pki.kubeconfig(STATE / "kubelet.kubeconfig", "system:node:node", "system:nodes")
    start(
        "kubelet",
        [
            binaries["kubelet"],
            f"--kubeconfig={config}",
            f"--config={_kubelet_config()}",
            f"--root-dir={STATE}/kubelet",
            f"--cert-dir={STATE}/kubelet/pki",
            f"--node-ip={NODE_IP}",
            "--hostname-override=node",
            "--node-labels=topology.kubernetes.io/zone=zone-a",
        ],
    )
    config = pki.kubeconfig(STATE / "kube-proxy.kubeconfig", "system:kube-proxy")
    start("kube-proxy", [binaries["kube-proxy"], f"--config={_proxy_config(config)}"])
    kubelet_ready = ("wait", "--for=condition=Ready", "node/node", "--timeout=1s")
    wait_until("the node", lambda: kubectl.try_run(*kubelet_ready), log="kubelet")
    _more_room(kubectl, {"cpu": _PROCESSORS} if small else _OF_A_CLOUD)


def _more_room(kubectl: Kubectl, claimed: Mapping[str, str]) -> None:
    """Let requests add up to more than the machine has: they are made for nodes on which all of it is busy at once."""
    status = {name: dict(claimed) for name in ("capacity", "allocatable")}
    kubectl.run(
        "patch", "node/node", "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}"
    )


def _start_containerd() -> None:
    (STATE / "hosts" / "_default").mkdir(parents=True)
    (STATE / "hosts" / "_default" / "hosts.toml").write_text(_HOSTS)
    _CNI.mkdir()
    plugins = [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(STATE / "cni-addresses"),
                "ranges": [[{"subnet": POD_CIDR, "rangeStart": "10.244.1.1", "gateway": NODE_IP}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    network = {"cniVersion": "0.4.0", "name": NETWORK, "plugins": plugins}
    (_CNI / "10-plumbline.conflist").write_text(json.dumps(network))
    config = STATE / "containerd.toml"
    config.write_text(_CONTAINERD)
    start("containerd", ["containerd", "--config", config])
    wait_until("containerd", CONTAINERD.exists, log="containerd")


def _kubelet_config() -> Path:
    certificate, key = pki.issue("kubelet-server", "node", hosts=("node", NODE_IP))
    config = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": NODE_IP,
        "authentication": {"x509": {"clientCAFile": str(pki.CA)}, "anonymous": {"enabled": False}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [NODE_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "podLogsDir": str(LOGS / "pods"),
        "volumePluginDir": str(STATE / "volume-plugins"),
        "registryPullQPS": 0,
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        # The Lease says that the node is alive; what it has is said once, and then corrected by _more_room.
        "nodeStatusUpdateFrequency": "24h",
        # A changed ConfigMap is seen at once instead of a minute later.
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }
    return _write("kubelet.yaml", config)


def _proxy_config(kubeconfig: Path) -> Path:
    config = {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "iptables",
        "hostnameOverride": "node",
        "clusterCIDR": POD_CIDR,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "200ms"},
        # Node ports answer on loopback only.
        "nodePortAddresses": ["127.0.0.0/8"],
        "metricsBindAddress": "127.0.0.1:16446",
        "healthzBindAddress": "127.0.0.1:16447",
    }
    return _write("kube-proxy.yaml", config)


def _write(name: str, config: Mapping[str, object]) -> Path:
    path = STATE / name
    path.write_text(yaml.safe_dump(config))
    return path


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
