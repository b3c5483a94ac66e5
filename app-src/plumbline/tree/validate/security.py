"""Checkov's rules for Kubernetes, on the objects as rendered; .checkov.yaml names each exception with its reason."""

import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from plumbline.core import programs
from plumbline.core.errors import Accident
from plumbline.tree import tools
from plumbline.tree.render.build import Object, as_yaml
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.problem import Problem


class SecurityError(Accident):
    """Checkov gave no verdict."""


def insecure(settings: Path, trees: list[Environment]) -> list[Problem]:
    """What Checkov finds by its settings. Raises SecurityError."""
    with TemporaryDirectory(prefix="checkov-") as folder:
        for tree in trees:
            for name, objects in tree.folders.items():
                file = Path(folder) / f"{name}.yaml"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(as_yaml(map(_as_deployment, objects)), encoding="utf-8")
        options = ("--config-file", settings, "-d", folder, "-o", "json")
        done = programs.run(tools.checkov(), *options, missing="run `make .venv-checkov/.installed`")
    try:
        failed = json.loads(done.stdout)["results"]["failed_checks"]
    except (ValueError, KeyError, TypeError) as error:
        raise SecurityError(f"Checkov ended with {done.code}: {done.error[-1000:]}") from error
    return [
        Problem(
            f"{item['file_path'].strip('/').removesuffix('.yaml')}: {item['resource']}",
            f"{item['check_name']} ({item['check_id']}; an exception goes into .checkov.yaml, with its reason)",
        )
        for item in failed
    ]


def _as_deployment(item: Object) -> Object:
    """Checkov knows no Rollout; its pods are those of a Deployment."""
    if item["kind"] != "Rollout":
        return item
    deployment = copy.deepcopy(item) | {"apiVersion": "apps/v1", "kind": "Deployment"}
    del deployment["spec"]["strategy"]
    return deployment
