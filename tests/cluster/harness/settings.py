"""Where the cluster lives on the machine: one folder for its state, one bridge, one range of addresses and ports."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[3]
STATE = Path(os.environ.get("PLUMBLINE_CLUSTER_STATE", "/var/lib/plumbline-cluster"))
LOGS = STATE / "logs"
_OWN = STATE / "admin.kubeconfig"
KUBECONFIG = Path(os.environ.get("KUBECONFIG") or _OWN)
GIVEN = KUBECONFIG != _OWN
"""Whether the cluster is somebody's own: it is used as it is, never started or stopped."""

RUNNING = STATE / "environment"
"""The folder of clusters/ that was started."""

BRIDGE = "plumb0"
NETWORK = "plumbline"  # what the CNI calls it, in files and firewall comments
NODE_IP = "10.244.0.1"  # the bridge's own address: neither kubelet nor API server may sit on loopback
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.245.0.0/16"
API_SERVICE_IP = "10.245.0.1"
# What staging and production leave to a cloud stands beside the node, below the addresses of pods.
AWS_IP, S3_IP, S3_DUALSTACK_IP, DATABASES_IP, IDENTITY_IP = (f"10.244.0.{number}" for number in range(2, 7))
S3_LOOPBACK = "127.0.0.1:17070"
POD_IDENTITY_IP = "169.254.170.23"
API_PORT = 16443
API_URL = f"https://{NODE_IP}:{API_PORT}"
ETCD_URL = "http://127.0.0.1:23790"
ETCD_PEER_URL = "http://127.0.0.1:23800"
REGISTRY = os.environ.get("PLUMBLINE_CLUSTER_REGISTRY", "127.0.0.1:5055")
CONTAINERD = STATE / "containerd.sock"

# What pods and Argo CD find under the public names, so that apps/ is synced as it stands.
OUR_URL = read_values(ROOT, "local").repository
GIT_HOSTS = tuple({"github.com", str(urlsplit(OUR_URL).hostname)})
# What the tests commit to, as this machine reaches it.
OUR_GIT = os.environ.get("PLUMBLINE_CLUSTER_GIT", str(STATE / "git" / urlsplit(OUR_URL).path.strip("/")))
GATEWAY_NODE_PORT = 30080
GATEWAY_TLS_NODE_PORT = 30443
