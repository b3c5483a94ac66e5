"""What policies may name of a model, from its folder alone: no data are fetched, nothing is trained."""

from pathlib import Path
from typing import Any

import pandas as pd

from plumbline.core.columns import slices
from plumbline.core.documents import DocumentError
from plumbline.core.documents import load as parse
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
        sections=_sections(name, models),
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


def card_of(name: str, models: Path | None = None) -> dict[Any, Any]:
    """The sections of a model's card; raises DocumentError where they can't be read."""
    path = folder_of(name, models) / "card.yaml"
    try:
        card = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"cannot be read: {error}", source=str(path)) from error
    if not isinstance(card, dict):
        raise DocumentError("expected sections with their text, such as `title: Who leaves?`", source=str(path))
    return card


def _sections(name: str, models: Path) -> tuple[str, ...] | None:
    try:
        return tuple(map(str, card_of(name, models)))
    except DocumentError:
        return None
