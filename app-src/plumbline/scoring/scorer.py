"""A released model, verified and loaded by the server's own classes, that answers frames of rows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from plumbline.core.release import Release
from plumbline.core.schema import ModelSchema
from plumbline.core.settings import load
from plumbline.core.values import RowsError
from plumbline.features.offline import encode_frame
from plumbline.serving.artifact.fetch import obtain
from plumbline.serving.cpus import available_cpus
from plumbline.serving.inference.answers import Answers
from plumbline.serving.inference.model import Matrix, Model, load_model
from plumbline.serving.settings import Settings

_CHUNK = 8192


@dataclass(frozen=True)
class Scorer:
    """Answers rows as the server would, bit by bit."""

    release: Release
    schema: ModelSchema
    model: Model

    @classmethod
    @contextmanager
    def fetch(cls, release: Release, path: Path, public_key: Path) -> Iterator["Scorer"]:
        """Fetch and verify what the release names; raises what `plumbline.serving.artifact.fetch.obtain` does."""
        with TemporaryDirectory(prefix="scoring-") as folder:
            settings = load(Settings, release=path, public_key=public_key, cache_dir=Path(folder))
            bundle, schema = obtain(release, settings, public_key.read_bytes(), lambda _: None)
            model = load_model(bundle / "model.onnx", schema, available_cpus(), lambda _: None)
            yield cls(release, schema, model)

    def score(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The columns that are no fields (ids, say), and the answers beside them; raises RowsError.

        A view is missing where the rows have none of its columns: nothing is looked up here.
        """
        missing = self._missing(rows)
        matrix = encode_frame(self.schema, rows)
        # A model that answers otherwise in company is asked row by row, as the server does.
        chunk = _CHUNK if self.model.cost.batch_rows > 1 else 1
        outputs = [self.model.run(matrix[start : start + chunk]) for start in range(0, len(matrix), chunk)]
        width = self.schema.output.width
        answers = np.concatenate(outputs) if outputs else np.empty((0, width), dtype=np.float32)
        if (endless := ~np.isfinite(answers).all(axis=1)).any():
            row, count = int(endless.argmax()), int(endless.sum())
            raise RowsError(
                f"row {row}: the model has no finite answer, as in {count} of {len(rows)} rows: leave them out"
            )
        notes = {"missing_views": ", ".join(missing)} if missing else {}
        answered = self._columns(answers) | notes
        return rows[self._others(rows, answered)].assign(**answered)

    def _others(self, rows: pd.DataFrame, answered: Mapping[str, Any]) -> list[Any]:
        """The columns that are no fields; raises RowsError for one that is meant as one, or as an answer's place."""
        fields = {field.name for field in self.schema.fields}
        others = [name for name in rows.columns if name not in fields]
        if taken := [name for name in others if name in answered]:
            raise RowsError(f"the column {taken[0]} is one of the answers' ({', '.join(answered)}): rename it")
        # The server knows no such field. Without it, the field's value would be missing in silence.
        meant = {name.casefold(): name for name in fields - set(rows.columns)}
        for name in others:
            if field := meant.get(str(name).strip().casefold()):
                raise RowsError(f"the column {name!r} is not known: the field is {field}")
        return others

    def _missing(self, rows: pd.DataFrame) -> list[str]:
        """The views that the answers are to say they are without; raises RowsError for one that must not be missing."""
        missing = [view for view in self.schema.views if not rows.columns.isin(view.fields).any()]
        for view in missing:
            if view.when_missing == "refuse" and len(rows):
                raise RowsError(
                    f"the view {view.name} is missing, and the model does not answer without it: "
                    f"give the columns {', '.join(view.fields)}"
                )
        return [view.name for view in missing if view.when_missing == "answer-and-say"]

    def _columns(self, answers: Matrix) -> dict[str, Any]:
        labels, version = self.schema.output.labels, self.release.spec.version
        if not labels:
            return {"value": answers[:, 0], "version": version}
        rule = Answers(self.schema.output, self.release.spec.threshold)
        chosen = [labels[index] for index in rule.label_indexes(answers)]
        each = {f"probability_{label}": answers[:, place] for place, label in enumerate(labels)}
        return {"label": chosen, **each, "version": version}
