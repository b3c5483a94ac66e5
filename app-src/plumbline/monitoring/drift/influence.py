"""Which shift matters: how much of the mean score comes from a column's being distributed otherwise.

The score is answered by a likeness of the model, gradient boosting fitted to the reference's scores, since a reference
may come without its model. A column's influence is the mean score of the window less the mean score of the same rows
with this column drawn from the reference (permutation importance, Breiman, "Random Forests", 2001, across two samples).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline.monitoring.drift.joint import encoded
from plumbline.monitoring.policy import LABEL, SCORE

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Influence:
    """A likeness of the model, and the inputs that it knows."""

    model: Any
    like: "pd.DataFrame"

    @classmethod
    def of(cls, reference: "pd.DataFrame") -> "Influence | None":
        """Fitted to the scores of a reference; None where it has no scores or no inputs."""
        from xgboost import XGBRegressor

        inputs = reference.drop(columns=[SCORE, LABEL], errors="ignore")
        if SCORE not in reference or inputs.empty:
            return None
        drawn = reference.sample(n=min(len(reference), _ROWS), random_state=0)
        drawn = drawn[drawn[SCORE].notna()]
        model = XGBRegressor(n_estimators=100, max_depth=6, learning_rate=0.15, max_bin=64, n_jobs=1, random_state=0)
        return cls(model.fit(encoded(drawn[inputs.columns], inputs), drawn[SCORE]), inputs)

    def of_shifts(self, now: "pd.DataFrame", before: "pd.DataFrame") -> dict[str, float]:
        """{input: its influence on the mean score, in the score's unit}."""
        names = list(self.like.columns)
        rows, other = (encoded(side[names], self.like) for side in (now, before))
        mean = float(self.model.predict(rows).mean())
        drawn = other[np.random.default_rng(0).integers(0, len(other), len(rows))]
        return {name: mean - float(self.model.predict(_swapped(rows, drawn, n)).mean()) for n, name in enumerate(names)}


def _swapped(rows: Any, other: Any, place: int) -> Any:
    swapped = rows.copy()
    swapped[:, place] = other[:, place]
    return swapped
