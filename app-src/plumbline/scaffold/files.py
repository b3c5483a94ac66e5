"""The files of a new model, as text by their path in the tree: what is known of its data, put into the templates."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plumbline.core import programs
from plumbline.core.documents import parse
from plumbline.core.templates import templates
from plumbline.monitoring.experiment import route
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.promotion.delivery.release_text import token
from plumbline.scaffold.look import Data, identifier
from plumbline.training.data import dvc_md5
from plumbline.tree.values import Values

_SLICES = 20


def texts(name: str, data: Data, csv: bytes, environments: Sequence[Values], owner: str) -> dict[str, bytes]:
    """{path: content} of everything that a model of this name needs."""
    pages = templates("plumbline.scaffold")
    pages.filters["literal"] = lambda value: (
        repr(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
    )
    pages.filters["token"] = token
    regression = data.task == "regression"
    values: dict[str, Any] = {
        "name": name,
        "data": data,
        "regression": regression,
        "output": identifier(data.target).lower(),
        "renamed": [field for field in data.fields if field.name != field.column],
        "slice": next((field.name for field in data.fields if 0 < field.values <= _SLICES), ""),
        "owner": owner,
        "registries": sorted({environment.registry for environment in environments}),
        "environments": environments,
        "first": next((item.name for item in environments if item.class_ == "open"), ""),
        "sample": max(50, min(2000, len(data.truth) // 50 * 10)),
        **(_regression(data.truth) if regression else _classes(data)),
    }

    def page(template: str, **more: Any) -> bytes:
        return (pages.get_template(f"{template}.j2").render(values | more).rstrip() + "\n").encode()

    model = f"app-src/models/{name}"
    source = page("data.py")
    deps = [_dep("data.py", source), _dep("rows.csv", csv)]
    written = {
        f"{model}/__init__.py": page("__init__.py"),
        f"{model}/data.py": source,
        f"{model}/rows.csv": csv,
        f"{model}/card.yaml": page("card.yaml"),
        f"{model}/dvc.yaml": page("dvc.yaml"),
        f"{model}/dvc.lock": page("dvc.lock", deps=deps, out=_folder_md5(csv)),
        f"{model}/.gitignore": b"/data\n",
        f"policies/promotion/{name}.yaml": page("promotion.yaml"),
        f"policies/experiments/{name}.yaml": (experiment := page("experiment.yaml")),
        f"policies/experiments/{name}/kustomization.yaml": route.text(parse(experiment.decode(), Experiment)).encode(),
        f"policies/drift/{name}.yaml": page("drift.yaml"),
    }
    for environment in environments:
        for file in ("canary.yaml", "kustomization.yaml"):
            written[f"clusters/{environment.name}/models/{name}/{file}"] = page(file)
    return written


def places(name: str, environments: list[str]) -> list[str]:
    """The folders and files of a model, as `texts` writes them and a person adds to them."""
    return [
        f"app-src/models/{name}",
        *(f"policies/{kind}/{name}.yaml" for kind in ("promotion", "experiments", "drift")),
        f"policies/experiments/{name}",
        *(f"clusters/{environment}/models/{name}" for environment in environments),
    ]


def owner_of(root: Path) -> str:
    """The address that git knows the person by."""
    return programs.git("config", "user.email", cwd=root).text.strip() or "nobody@example.com"


def _classes(data: Data) -> dict[str, Any]:
    """Limits that the frequencies of the labels alone reach: a model must be better."""
    shares = data.truth.value_counts(normalize=True)
    entropy = float(-(shares * np.log(shares)).sum())
    first = (
        "{metric: roc_auc, bound: low, min: 0.5}"
        if data.task == "binary"
        else f"{{metric: accuracy, bound: low, min: {_short(float(shares.max()))}}}"
    )
    limits = [first, f"{{metric: log_loss, bound: high, max: {_short(entropy)}}}"]
    return {"limits": limits, "metric": "log_loss", "margin": 0.01, "parity": 0.0001}


def _regression(truth: "pd.Series[str]") -> dict[str, Any]:
    """Limits that the mean alone reaches, in the unit of the target."""
    numbers = truth.astype(float)
    spread = float(numbers.std())
    limits = [
        "{metric: r2, bound: low, min: 0}",
        f"{{metric: rmse, bound: high, max: {_short(spread)}}}",
    ]
    # float32 has seven digits: what is larger may differ by more.
    parity = _short(max(spread, float(numbers.abs().max())) / 10_000)
    shorts = {"margin": _short(spread / 50), "deviation": _short(spread / 4), "parity": parity}
    return {"limits": limits, "metric": "rmse", **shorts}


def _short(value: float) -> str:
    """Two digits that mean something, as YAML reads a number."""
    return np.format_float_positional(float(f"{value:.2g}"), trim="-")


def _dep(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(), "size": len(content)}


def _folder_md5(csv: bytes) -> str:
    with tempfile.TemporaryDirectory(prefix="new-model-") as folder:
        (Path(folder) / "rows.csv").write_bytes(csv)
        return dvc_md5(Path(folder))
