"""The model card: one Markdown text from the run's own figures, and the same as a page that stands alone."""

import base64
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from plumbline.core.templates import templates
from plumbline.promotion.delivery.documents import Approval
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import read_approval
from plumbline.promotion.gate.evaluation import Evaluation, read_evaluation
from plumbline.promotion.registry.client import Registry, Version

# The Markdown is text, for people and for MLflow; the page's renderer escapes any HTML that stands in it.
_templates = templates("plumbline.promotion.registry")


def facts(version: Version, semver: str, evaluation: Evaluation, approval: Approval | None) -> dict[str, Any]:
    """What the templates show."""
    return {
        "version": version,
        "semver": semver,
        "tags": version.tags,
        "schema": evaluation.bundle.schema,
        "report": evaluation.report,
        "card": evaluation.card,
        "approval": approval,
    }


def markdown(values: dict[str, Any]) -> str:
    """card.md."""
    return _templates.get_template("card.md.j2").render(values)


def page(values: dict[str, Any], plots: Path | None) -> str:
    """card.html: no script, no link to elsewhere; the plots are inside."""
    pictures = sorted(plots.glob("*.png")) if plots is not None else []
    return _templates.get_template("card.html.j2").render(
        title=f"{values['version'].model} {values['semver']}",
        body=MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown(values)),
        plots={path.stem.replace("_", " "): base64.b64encode(path.read_bytes()).decode() for path in pictures},
    )


def write(values: dict[str, Any], plots: Path | None, folder: Path) -> tuple[Path, Path]:
    """Write card.md and card.html into a folder."""
    folder.mkdir(exist_ok=True)
    text, html = folder / "card.md", folder / "card.html"
    text.write_text(markdown(values), encoding="utf-8")
    html.write_text(page(values, plots), encoding="utf-8")
    return text, html


def render_again(registry: Registry, tree: Checkout, model: str, semver: str, folder: Path) -> tuple[Path, Path]:
    """The card with the life cycle and approval of now, stored beside the run; returns card.md and card.html."""
    version = registry.find(model, semver)
    evaluation = read_evaluation(registry, version.run, model, folder)
    plots = registry.download(version.run, "plots", folder) if registry.names(version.run, "plots") else None
    approval = read_approval(tree, model, semver)
    paths = write(facts(version, semver, evaluation, approval), plots, folder / "card")
    for path in paths:
        registry.upload(version.run, path, "card")
    return paths
