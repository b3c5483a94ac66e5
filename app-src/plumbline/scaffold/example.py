"""The data of a new model for which nobody named a file: customers of a telephone company, made up."""

import numpy as np
import pandas as pd

_ROWS = 1500
_TARGETS = {"binary": "leaves", "multiclass": "next_plan", "regression": "next_bill"}


def csv(task: str) -> bytes:
    """A category, whole numbers, a number that is missing now and then, and what the task is to predict."""
    generator = np.random.default_rng(0)
    plan = generator.choice(["basic", "plus", "pro"], _ROWS, p=[0.5, 0.3, 0.2])
    months = generator.integers(1, 73, _ROWS)
    calls = generator.poisson(1.5, _ROWS)
    bill = (np.array([20, 35, 60])[np.unique(plan, return_inverse=True)[1]] + generator.normal(0, 5, _ROWS)).round(2)
    unhappy = 0.9 * calls - 0.05 * months + 0.02 * bill + generator.normal(0, 1, _ROWS)
    targets = {
        "leaves": np.where(unhappy > 1.5, "yes", "no"),
        "next_plan": np.where(unhappy > 1.5, "basic", np.where(bill > 33, "pro", "plus")),
        "next_bill": (bill + 0.3 * months - 2 * calls + generator.normal(0, 2, _ROWS)).round(2),
    }
    table = pd.DataFrame({"plan": plan, "months": months, "support_calls": calls, "bill": bill})
    table.loc[generator.random(_ROWS) < 0.03, "bill"] = np.nan
    table[_TARGETS[task]] = targets[_TARGETS[task]]
    return table.to_csv(index=False, lineterminator="\n").encode()
