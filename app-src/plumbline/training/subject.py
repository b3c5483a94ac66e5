"""What policies may name of a model, from its folder alone: no data are fetched, nothing is trained."""

from pathlib import Path

import pandas as pd
import yaml

from plumbline.core.columns import slices
from plumbline.core.subject import Subject, fields_of
from plumbline.training.model import Model, folder_of, load


def subject_of(name: str, models: Path) -> Subject:
    """The model of this name in a folder of models; raises ModelError where it is none."""
    model = load(name, models)
    schema = model.schema
    return Subject(
        output=schema.output,
        fields=fields_of(schema),
        views=tuple(view.name for view in schema.views),
        costs=model.costs,
        declared=model.metrics,
        slices=_slices(model),
        sections=_sections(folder_of(name, models) / "card.yaml"),
    )


def _slices(model: Model) -> tuple[str, ...] | None:
    """The slices that rows() gives, asked for no row at all; None where it can't do without any."""
    try:
        empty = {
            name: pd.DataFrame({key: pd.Series(dtype=str(column.dtype)) for key, column in schema.columns.items()})
            for name, schema in model.tables.items()
        }
        return slices(model.rows(empty).columns)
    except Exception:
        return None


def _sections(card: Path) -> tuple[str, ...] | None:
    try:
        document = yaml.safe_load(card.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return tuple(map(str, document)) if isinstance(document, dict) else None
