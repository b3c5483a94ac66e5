"""A person's own clone of this work tree, in which `make dev` runs."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import services
import trees

ROOT = Path(__file__).parents[3]
_OURS = re.compile(r"(MLFLOW|PROMOTION|MONITORING|SERVING|FEATURES|TRAINING|GIT)_|PYTHONWARNINGS$")


@dataclass
class Laptop:
    """A clone, and a shell in it that knows nothing but what the clone says."""

    folder: Path
    environment: dict[str, str]

    def bash(self, script: str, expect: int = 0) -> str:
        """What a script printed; it ends at its first command that fails, so that this must not."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == expect, f"{done.returncode} from\n{script}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def dev(self, *command: str | Path, stop: signal.Signals = signal.SIGINT) -> Iterator[subprocess.Popen[bytes]]:
        """`make dev` as in a terminal, from when it is ready until Ctrl-C; or another command and signal."""
        log = self.folder.parent / "dev.log"
        with log.open("ab") as output:
            running = subprocess.Popen(
                command or ["make", "dev"], cwd=self.folder, env=self.environment, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        try:
            end = time.monotonic() + services.STARTUP_SECONDS
            while not (self.folder / ".dev/env").exists():
                assert running.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield running
        finally:
            # Ctrl-C reaches all of a terminal's processes, any other signal the one that was asked.
            (os.killpg if stop == signal.SIGINT else os.kill)(running.pid, stop)
            running.wait(60)


@pytest.fixture(scope="session")
def laptop() -> Iterator[Laptop]:
    """A clone of the work tree as it is now, with the environments that `make install` has made.

    Not in pytest's folder: another run closes that to the user that PostgreSQL runs as.
    """
    with tempfile.TemporaryDirectory(prefix="plumbline-laptop-") as home:
        folder = Path(home) / "plumbline"
        (folder / ".cache").mkdir(parents=True)
        trees.copy(folder, (".venv", ".venv-serving", ".cache/uv"))
        trees.without_models(folder, "churn", "plans", "bills")  # those of the guide, which a person may have made
        for lock in (folder / "locks").iterdir():
            os.utime(lock, (0, 0))  # older than what was installed from them
        # The environments know the package of ROOT; here it is that of the clone.
        environment = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        environment |= {"HOME": home, "PYTHONPATH": str(folder / "app-src")}
        mine = Laptop(folder, environment)
        mine.bash(
            "git config --global user.email ada@example.com; git config --global user.name Ada\n"
            "git config --global init.defaultBranch main; printf '.venv*\\n.cache\\n' > ../ignored\n"
            "git config --global core.excludesFile ~/ignored; git init -q; git add .; git commit -qm 'as it is now'"
        )
        yield mine
