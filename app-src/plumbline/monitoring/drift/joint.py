"""Whether columns still go together as they did: a classifier tries to tell the window's rows from the reference's.

Cross-validated ROC AUC, 0.5 where no one can tell them apart (domain classifier: Lopez-Paz and Oquab, "Revisiting
Classifier Two-Sample Tests", ICLR 2017; NannyML's documentation, "Multivariate drift: domain classifier"). Columns that
all rows of a moment share, as the weather, tell every day from every other: they are left to the other statistics.
"""

from typing import TYPE_CHECKING

import numpy as np

from plumbline.core.metrics.curve import Curve
from plumbline.monitoring.drift.blocks import Blocks, Floats

if TYPE_CHECKING:
    import pandas as pd

_OF_THE_MOMENT = 0.1
"""From this share of its variance between blocks on, a column is of the moment, not of the row."""


def of_rows(inputs: "pd.DataFrame", pairs: Blocks) -> tuple[str, ...]:
    """The columns, at least two, whose ranks vary within blocks, not between them (correlation ratio); else none."""
    ranks = inputs.apply(lambda column: column.astype("category").cat.codes if column.dtype == object else column)
    ranks = ranks.rank(pct=True)
    means = np.array([ranks.iloc[block].mean() for block, _ in pairs.pairs])
    missing = np.array([inputs.iloc[block].isna().mean() for block, _ in pairs.pairs])
    with np.errstate(all="ignore"):
        share = np.nanvar(means, axis=0) / ranks.var().to_numpy()
    moment = (share > _OF_THE_MOMENT) | (missing.std(axis=0) > _OF_THE_MOMENT) | ~np.isfinite(share)
    names = tuple(str(name) for name, of_it in zip(inputs.columns, moment, strict=True) if not of_it)
    return names if len(names) > 1 else ()


def encoded(frame: "pd.DataFrame", like: "pd.DataFrame") -> Floats:
    """Numbers as they are, categories by how frequent they are in `like`; shape (rows, columns), NaN where missing."""
    columns = []
    for name in like.columns:
        if like[name].dtype == np.float64:
            columns.append(frame[name].to_numpy(dtype=np.float64))
        else:
            order = {value: place for place, value in enumerate(like[name].value_counts().index)}
            places = frame[name].map(order).fillna(len(order)).to_numpy(dtype=np.float64)
            columns.append(np.where(frame[name].isna(), np.nan, places))
    return np.column_stack(columns)


def separation(reference: "pd.DataFrame", other: "pd.DataFrame") -> float:
    """The AUC, cross-validated, of telling two sides apart."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from xgboost import XGBClassifier

    features = np.vstack([encoded(side, reference) for side in (reference, other)])
    side = np.repeat([0.0, 1.0], [len(reference), len(other)])
    model = XGBClassifier(n_estimators=40, max_depth=4, learning_rate=0.2, max_bin=64, n_jobs=1, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_predict(model, features, side, cv=folds, method="predict_proba")[:, 1]
    return Curve(side, scores).roc_auc(np.ones(len(side)))
