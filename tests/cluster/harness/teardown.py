"""Gives the machine back: no process, mount, interface, firewall rule, control group or file of the cluster remains."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from harness import node, processes
from harness.binaries import CACHE
from harness.settings import BRIDGE, NETWORK, STATE


def down() -> None:
    """Take away what `up` made, however far it came. Does nothing where nothing is."""
    if not STATE.exists():
        return
    processes.stop_all()
    _stop_containers()
    _unmount()
    _remove_interfaces()
    for command in ("iptables", "ip6tables"):
        _remove_rules(command)
    _remove_control_groups()
    node.restore_sysctls()
    _remove_files()
    shutil.rmtree(STATE)


def _stop_containers() -> None:
    """End the shims of our containerd and what runs below them; looked for again until none is found."""
    while shims := _shims():
        for shim in shims:
            # A thread may end while its children are listed: then this shim's turn is the next round.
            with suppress(FileNotFoundError, ProcessLookupError):
                for child in [*_descendants(shim), shim]:
                    processes.stop(child, seconds=0.5)


def _shims() -> list[int]:
    """Their command line names the socket of our containerd."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            text = command.read_bytes()
            if b"containerd-shim" in text and str(STATE).encode() in text:
                found.append(int(command.parent.name))
    return found


def _descendants(pid: int) -> list[int]:
    """Children before their parents."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [*_descendants(int(child)), int(child)]
    return found


def _unmount() -> None:
    mounted = [line.split()[1].replace("\\040", " ") for line in Path("/proc/mounts").read_text().splitlines()]
    # buildah's as well: one that was interrupted leaves the layers that it had mounted.
    ours = (f"{STATE}/", f"{CACHE}/containers/")
    for path in sorted((path for path in mounted if path.startswith(ours)), reverse=True):
        subprocess.run(["umount", "--lazy", path], check=False)


def _remove_interfaces() -> None:
    shown = subprocess.run(["ip", "-o", "link", "show", "master", BRIDGE], capture_output=True, text=True, check=False)
    for name in [*re.findall(r"^\d+: ([^@:]+)", shown.stdout, re.MULTILINE), BRIDGE]:
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def _remove_rules(command: str) -> None:
    """Load the rules again without those of kube-proxy (KUBE-), of the kubelet and of the CNI plugins (CNI-)."""
    saved = subprocess.run([f"{command}-save"], capture_output=True, text=True, check=False).stdout.splitlines()
    ours = re.compile(rf"KUBE-|CNI-|cni-|{NETWORK}")
    script, chains = [], []
    table = ""
    for line in saved:
        if line.startswith("*"):
            table = line[1:]
        if ours.search(line):
            if line.startswith(":"):
                chains.append((table, line[1:].split()[0]))
            elif line.startswith("-A") and not re.match(r"-A (KUBE|CNI)-", line):
                script.append((table, line.replace("-A", "-D", 1)))
    for name in {table for table, _ in [*script, *chains]}:
        lines = [f"*{name}"]
        lines += [f":{chain} - [0:0]" for table, chain in chains if table == name]
        lines += [rule for table, rule in script if table == name]
        lines += [f"-X {chain}" for table, chain in chains if table == name]
        text = "\n".join([*lines, "COMMIT", ""])
        subprocess.run([f"{command}-restore", "--noflush"], input=text, text=True, check=True)


def _remove_control_groups() -> None:
    for group in Path("/sys/fs/cgroup").glob("*/kubepods"):
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def _remove_files() -> None:
    """What containerd, the CNI library and the kubelet write at fixed places, whatever their settings say."""
    for link in Path("/var/log/containers").glob("*.log"):
        if str(STATE) in str(link.readlink()):
            link.unlink()
    for result in Path("/var/lib/cni/results").glob(f"{NETWORK}-*-eth0"):
        pod = result.name.removeprefix(f"{NETWORK}-").removesuffix("-eth0")
        result.unlink()
        result.with_name(f"cni-loopback-{pod}-lo").unlink(missing_ok=True)
    listening = Path("/proc/net/unix").read_text()
    for socket in [*Path("/run/containerd/s").glob("*"), Path("/var/lib/kubelet/device-plugins/kubelet.sock")]:
        if str(socket) not in listening:
            socket.unlink(missing_ok=True)
    for folder in (
        "/var/log/containers",
        "/var/lib/cni/results",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet",
    ):
        with suppress(OSError):
            Path(folder).rmdir()
