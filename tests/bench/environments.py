"""An environment for each peer, from its lock of hashes, kept in the user's cache under the lock's content."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
TOOLS = Path(__file__).parent / "tools"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "plumbline" / "bench"
ROOT = Path(__file__).parents[2]
UV = ROOT / ".cache" / "uv" / "bin" / "uv"
SERVING = ROOT / ".venv-serving" / "bin" / "python"
"""The environment of the model server's image; the bare limits run in it too."""


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, which is made if need be."""
    lock = LOCKS / f"{name}.txt"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = _CACHE / f"{name}-{digest}"
    if not (folder / ".complete").exists():
        print(f"» {name}: its environment")
        subprocess.run([UV, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run(
            [UV, "pip", "sync", "-q", "--compile-bytecode", "--require-hashes", "--python", folder, lock], check=True
        )
        (folder / ".complete").touch()
    return folder / "bin" / "python"


def vegeta() -> Path:
    """The load generator of the open loop, built from the Go module that tools/ pins."""
    pins = b"".join((TOOLS / name).read_bytes() for name in ("go.mod", "go.sum"))
    program = _CACHE / f"vegeta-{hashlib.sha256(pins).hexdigest()[:16]}"
    if not program.exists():
        print("» building vegeta")
        build: list[str | Path] = [
            ROOT / "scripts" / "go",
            "-C",
            TOOLS,
            "build",
            "-trimpath",
            "-ldflags=-s -w",
            "-o",
            program,
        ]
        subprocess.run([*build, "github.com/tsenart/vegeta/v12"], check=True)
    return program


def version_of(lock: Path, package: str) -> str:
    """What a lock pins a package to."""
    found = re.search(rf"^{re.escape(package)}==(\S+)", lock.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{lock}: does not pin {package}")
    return found[1]
