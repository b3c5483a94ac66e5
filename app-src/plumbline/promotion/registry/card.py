"""The model card: one Markdown text from the run's own figures, and the same as a page that stands alone."""

import base64
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from plumbline.core.metrics import names
from plumbline.core.templates import templates
from plumbline.promotion.delivery.approval import Given, approvals
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.gate.evaluation import Papers, read_papers
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import Version
from plumbline.training.report import OBJECTIVE, Interval, Report

# The Markdown is text, for people and for MLflow; the page's renderer escapes any HTML that stands in it.
_templates = templates("plumbline.promotion.registry")


def facts(version: Version, semver: str, papers: Papers, approvals: list[Given]) -> dict[str, Any]:
    """What the templates show."""
    output, report = papers.schema.output, papers.report
    overall = [*names.overall(output, costs=report.costs is not None), *report.declared(output)]
    return {
        "version": version,
        "semver": semver,
        "tags": version.tags,
        "schema": papers.schema,
        "report": report,
        # Of a slice; with each label's own the table is too wide for any screen.
        "overall": [name for name in overall if name in report.metrics],
        "card": papers.card,
        "summary": summary(report, output.task),
        "approvals": "; ".join(map(str, approvals)),
    }


def summary(report: Report, task: str) -> str:
    """What whoever approves reads first: how good the model is, next to its baseline, and where it is weakest."""
    name = OBJECTIVE[task]
    if name not in report.metrics or name not in report.baseline:
        return f"Its report does not compare its {name} with a baseline's."
    model, baseline = report.metrics[name], report.baseline[name]
    if model.high < baseline.low:
        beside = "better than the baseline's"
    else:
        beside = "worse than the baseline's" if model.low > baseline.high else "not clearly apart from the baseline's"
    sentences = [
        f"On {report.test.rows:,} rows that it did not learn from, its {name} is {_figures(model)}, lower is better: "
        f"{beside} {_figures(baseline)}."
    ]
    if judged := [item for item in report.slices if name in item.metrics]:
        weakest = max(judged, key=lambda item: item.metrics[name].value)
        where = f"{weakest.column} is {weakest.value}"
        sentences.append(f"It is weakest where {where}: {_figures(weakest.metrics[name])} on {weakest.rows:,} rows.")
    return " ".join(sentences)


def _figures(interval: Interval) -> str:
    return f"{interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def markdown(values: dict[str, Any], plots: dict[str, str] | None = None) -> str:
    """card.md; with plots, {name: PNG in base64}, the text of card.html."""
    return _templates.get_template("card.md.j2").render(values, plots=plots or {})


def page(values: dict[str, Any], plots: Path | None) -> str:
    """card.html: no script, no link to elsewhere; the plots are inside."""
    pictures = sorted(plots.glob("*.png")) if plots is not None else []
    text = markdown(values, {path.stem: base64.b64encode(path.read_bytes()).decode() for path in pictures})
    return _templates.get_template("card.html.j2").render(
        title=f"{values['version'].model} {values['semver']}",
        body=MarkdownIt("commonmark", {"html": False}).enable("table").render(text),
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
    papers = read_papers(registry, version.run, model, folder)
    plots = registry.download(version.run, "plots", folder) if registry.names(version.run, "plots") else None
    given = approvals(tree, model, semver)
    paths = write(facts(version, semver, papers, given), plots, folder / "card")
    for path in paths:
        registry.upload(version.run, path, "card")
    return paths
