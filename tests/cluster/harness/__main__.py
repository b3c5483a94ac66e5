"""`python -m harness up|down`: a Kubernetes for the cluster tests, or none. Needs root on a Debian machine.

With KUBECONFIG `up` says what that cluster lacks for them, and `down` leaves it as it is.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from harness import control_plane, given, images, node, pki, platform, repositories
from harness.binaries import binaries
from harness.kubectl import Kubectl
from harness.progress import Progress
from harness.settings import GIVEN, KUBECONFIG, ROOT, STATE
from harness.teardown import down

_DEBIAN = ["containerd", "runc", "containernetworking-plugins", "conntrack", "iptables", "iproute2"]
_DEBIAN += ["mmdebstrap", "buildah", "docker-registry", "git", "curl"]


def up() -> None:
    """Build what is missing, start everything, wait until Argo CD says Synced and Healthy; clean up after a failure."""
    if os.geteuid() != 0:
        raise SystemExit("a cluster needs root: network interfaces, mounts and firewall rules are made")
    _install_packages()
    programs = binaries()
    down()
    STATE.mkdir(parents=True)
    progress = Progress()
    kubectl = Kubectl(programs["kubectl"])
    steps = (
        ("certificates", pki.create),
        ("network bridge", node.create_bridge),
        ("image registry", images.start_registry),
        ("control plane", lambda: control_plane.start_control_plane(programs, kubectl)),
        ("images", lambda: platform.push_images(programs)),
        ("git server", repositories.serve),
        ("the project's images", lambda: repositories.commit_images(images.push_project_images())),
        ("node", lambda: node.start_node(programs, kubectl)),
        ("Istio", lambda: platform.install_istio(kubectl)),
        ("scripts/bootstrap local", lambda: platform.bootstrap(programs, kubectl)),
        ("webhook", repositories.call_webhook),
    )
    try:
        for name, step in steps:
            progress.say(name)
            step()
    except BaseException:
        # Whoever presses Ctrl-C twice would leave half of it behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if "PLUMBLINE_CLUSTER_KEEP" not in os.environ:
            progress.say("failed: taking it down again (PLUMBLINE_CLUSTER_KEEP=1 leaves it for a look)")
            down()
        raise
    progress.say(f"ready: export KUBECONFIG={KUBECONFIG}")


def _install_packages() -> None:
    query = ["dpkg-query", "--show", "--showformat=${Package} ${Status}\n", *_DEBIAN]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    missing = [name for name in _DEBIAN if f"{name} install ok installed" not in shown.splitlines()]
    if missing and subprocess.run([ROOT / "scripts/apt-install", *missing], check=False).returncode:
        raise SystemExit(1)


if __name__ == "__main__":
    actions: dict[str, Callable[[], None]] = (
        {"up": given.check, "down": lambda: None} if GIVEN else {"up": up, "down": down}
    )
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        raise SystemExit(__doc__)
    # So that a CI that gives up (SIGTERM) takes it down as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        actions[sys.argv[1]]()
    except RuntimeError as error:
        raise SystemExit(f"cluster {sys.argv[1]}: {error}") from None
