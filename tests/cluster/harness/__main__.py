"""`python -m harness up [ENV]|down`: a Kubernetes for the cluster tests, or none. Needs root on a Debian machine.

ENV is a folder of clusters/, `local` if nothing is said. Where another one that leans on a cloud ran until now, its
repository, its released models and the keys that sign them go on: a release travels from staging to production.

With KUBECONFIG `up` says what that cluster lacks for them, and `down` leaves it as it is.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from harness import control_plane, given, images, node, outside, pki, platform, repositories
from harness.binaries import binaries
from harness.kubectl import Kubectl
from harness.progress import Progress
from harness.settings import GIVEN, KUBECONFIG, NODE_IP, ROOT, RUNNING, STATE
from harness.teardown import down
from plumbline.tree.render.build import environments
from plumbline.tree.values import read_values

_DEBIAN = ["containerd", "runc", "containernetworking-plugins", "conntrack", "iptables", "iproute2"]
_OUTSIDE = ["postgresql-15", "redis-server"]
_DEBIAN += ["mmdebstrap", "buildah", "docker-registry", "git", "curl"]


def up(environment: str) -> None:
    """Build what is missing, start everything, wait until Argo CD says Synced and Healthy; clean up after a failure."""
    if os.geteuid() != 0:
        raise SystemExit("a cluster needs root: network interfaces, mounts and firewall rules are made")
    if environment not in (names := environments(ROOT)):
        raise SystemExit(f"there is no environment {environment!r}; expected one of {', '.join(names)}")
    values = read_values(ROOT, environment)
    in_cloud = outside.is_needed(values)
    _install_packages([*_DEBIAN, *(_OUTSIDE if in_cloud else ())])
    programs = binaries(charts=in_cloud)
    kept = outside.take_along(values)
    down()
    STATE.mkdir(parents=True)
    if kept:
        outside.put_down(kept)
    RUNNING.write_text(environment)
    progress = Progress()
    kubectl = Kubectl(programs["kubectl"])
    known = {NODE_IP: tuple(repositories.hosts(environment)), **outside.names(values)}
    zones = outside.zones(values)
    steps = (
        ("certificates", pki.create),
        ("network bridge", node.create_bridge),
        ("image registry", images.start_registry),
        (
            "control plane",
            lambda: control_plane.start_control_plane(programs, kubectl, known, zones),
        ),
        ("images", lambda: platform.push_images(programs, values)),
        ("git server", lambda: repositories.serve(environment, programs.get("helm"))),
        *((("services outside", lambda: outside.serve(values, kubectl)),) if in_cloud else ()),
        (
            "the project's images",
            lambda: repositories.fill_in(
                values, images.push_project_images(values), outside.services(values) if in_cloud else {}
            ),
        ),
        ("node", lambda: node.start_node(programs, kubectl, small=not in_cloud)),
        *((("Istio", lambda: platform.install_istio(kubectl)),) if values.given else ()),
        *(
            (("CRDs of charts", lambda: platform.install_crds(programs["helm"], kubectl, environment)),)
            if in_cloud
            else ()
        ),
        (f"scripts/bootstrap {environment}", lambda: platform.bootstrap(programs, kubectl, environment)),
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


def _install_packages(wanted: list[str]) -> None:
    query = ["dpkg-query", "--show", "--showformat=${Package} ${Status}\n", *wanted]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    missing = [name for name in wanted if f"{name} install ok installed" not in shown.splitlines()]
    if missing and subprocess.run([ROOT / "scripts/apt-install", *missing], check=False).returncode:
        raise SystemExit(1)


if __name__ == "__main__":
    named = sys.argv[2] if len(sys.argv) > 2 else "local"
    actions: dict[str, Callable[[], None]] = (
        {"up": given.check, "down": lambda: None} if GIVEN else {"up": lambda: up(named), "down": down}
    )
    action = sys.argv[1] if len(sys.argv) > 1 else ""
    if action not in actions or len(sys.argv) > 2 + (action == "up"):
        raise SystemExit(__doc__)
    # So that a CI that gives up (SIGTERM) takes it down as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        actions[action]()
    except RuntimeError as error:
        raise SystemExit(f"cluster {action}: {error}") from None
