"""etcd, the API server, controller manager, scheduler and DNS, as processes of the host."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from harness import pki
from harness.kubectl import Kubectl
from harness.processes import start, wait_until
from harness.settings import (
    API_PORT,
    API_SERVICE_IP,
    API_URL,
    ETCD_PEER_URL,
    ETCD_URL,
    KUBECONFIG,
    NODE_IP,
    SERVICE_CIDR,
    STATE,
)

_COREFILE = """\
.:53 {{
    bind {node}
    errors
    hosts {{
{hosts}
        fallthrough
    }}
{zones}    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
    }}
    cache 5
}}
"""


_ZONE = """\
    template IN A {zone} {{
        answer "{{{{ .Name }}}} 60 IN A {address}"
    }}
    template IN AAAA {zone} {{
        rcode NOERROR
    }}
"""


def start_control_plane(
    binaries: dict[str, Path], kubectl: Kubectl, names: Mapping[str, Iterable[str]], zones: Mapping[str, str]
) -> None:
    """Start all five and wait until the API server is ready and the names resolve.

    names: {address: the names that lead there}; zones: {zone: the address of every name in it}.
    """
    _start_etcd(binaries["etcd"])
    _start_api_server(binaries["kube-apiserver"])
    pki.kubeconfig(KUBECONFIG, "admin", "system:masters")
    wait_until("the API server", lambda: kubectl.try_run("get", "--raw", "/readyz"), log="kube-apiserver")
    for name in ("kube-controller-manager", "kube-scheduler"):
        config = pki.kubeconfig(STATE / f"{name}.kubeconfig", f"system:{name}")
        start(name, [binaries[name], f"--kubeconfig={config}", "--leader-elect=false", *_EXTRA[name]])
    config = pki.kubeconfig(STATE / "coredns.kubeconfig", "coredns", "system:masters")
    corefile = STATE / "Corefile"
    hosts = "\n".join(f"        {address} {' '.join(sorted(given))}" for address, given in names.items())
    templates = "".join(_ZONE.format(zone=zone, address=address) for zone, address in zones.items())
    corefile.write_text(_COREFILE.format(node=NODE_IP, hosts=hosts, zones=templates, kubeconfig=config))
    start("coredns", [binaries["coredns"], "-conf", corefile])


_EXTRA = {
    "kube-controller-manager": [
        f"--root-ca-file={pki.CA}",
        f"--service-account-private-key-file={pki.FOLDER / 'tokens.key'}",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={pki.CA}",
        f"--cluster-signing-key-file={pki.FOLDER / 'ca.key'}",
        "--bind-address=127.0.0.1",
        "--secure-port=16444",
    ],
    "kube-scheduler": ["--bind-address=127.0.0.1", "--secure-port=16445"],
}


def _start_etcd(etcd: Path) -> None:
    command = [etcd, "--data-dir", STATE / "etcd", "--unsafe-no-fsync", "--name=test"]
    command += [f"--listen-client-urls={ETCD_URL}", f"--advertise-client-urls={ETCD_URL}"]
    command += [f"--listen-peer-urls={ETCD_PEER_URL}", f"--initial-advertise-peer-urls={ETCD_PEER_URL}"]
    start("etcd", [*command, f"--initial-cluster=test={ETCD_PEER_URL}"])


def _start_api_server(api_server: Path) -> None:
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    certificate, key = pki.issue("apiserver", "kube-apiserver", hosts=(*names, NODE_IP, API_SERVICE_IP))
    client, client_key = pki.issue("kubelet-client", "kube-apiserver", "system:masters")
    proxy, proxy_key = pki.issue("front-proxy", "front-proxy")
    flags = {
        "etcd-servers": ETCD_URL,
        "bind-address": NODE_IP,
        "advertise-address": NODE_IP,
        "secure-port": API_PORT,
        "client-ca-file": pki.CA,
        "tls-cert-file": certificate,
        "tls-private-key-file": key,
        "kubelet-client-certificate": client,
        "kubelet-client-key": client_key,
        "kubelet-preferred-address-types": "InternalIP",
        "proxy-client-cert-file": proxy,
        "proxy-client-key-file": proxy_key,
        "requestheader-client-ca-file": pki.CA,
        "requestheader-allowed-names": "front-proxy",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "enable-aggregator-routing": "true",
        "service-account-issuer": API_URL,
        "service-account-key-file": pki.FOLDER / "tokens.key",
        "service-account-signing-key-file": pki.FOLDER / "tokens.key",
        "service-cluster-ip-range": SERVICE_CIDR,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
    }
    start("kube-apiserver", [api_server, *(f"--{name}={value}" for name, value in flags.items())])
