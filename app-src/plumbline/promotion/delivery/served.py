"""What git says that an environment serves, as files: a Workflow fans out over the list and hands on the rest."""

import json
import shutil
from pathlib import Path

from plumbline.core.names import plain_name
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.reconcile import models_of
from plumbline.promotion.delivery.records import read_served, require_environment


def write(tree: Checkout, environment: str, folder: Path) -> list[dict[str, str]]:
    """Write models.json, releases/<model>.yaml and policies/ into `folder`; returns the list of models.json."""
    plain_name(environment, "environment", like="staging")
    require_environment(tree, environment)
    (folder / "releases").mkdir(parents=True, exist_ok=True)
    models = []
    for model in models_of(tree, environment):
        if (release := read_served(tree, environment, model)) is not None:
            models.append({"model": model, "version": release.spec.version, "run": release.spec.lineage.run})
            path = folder / "releases" / f"{model}.yaml"
            shutil.copyfile(tree.path / "clusters" / environment / "models" / model / "release.yaml", path)
    shutil.copytree(tree.path / "policies", folder / "policies", dirs_exist_ok=True)
    (folder / "models.json").write_text(json.dumps(models) + "\n", encoding="utf-8")
    return models
