"""Metrics that are means over rows, row by row: for figures that compare rows, callers or days with each other."""

import numpy as np
import numpy.typing as npt

from plumbline.core.metrics.curve import Floats
from plumbline.core.metrics.names import Costs
from plumbline.core.schema import Output

Places = npt.NDArray[np.intp]
"""Of labels among the output's, shape (rows,)."""
TINY = float(np.finfo(np.float32).eps)
"""As near to 0 and to 1 as a log loss takes a probability for."""


def per_row(
    output: Output, truth: Floats, outputs: Floats, called: Places, costs: Costs | None = None
) -> dict[str, Floats]:
    """Accuracy, Brier score, log loss and cost of each row, or the absolute error of values; each of shape (rows,).

    truth: places of labels or values, shape (rows,); outputs: probabilities, shape (rows, labels), or values, shape
    (rows, 1); called: places of the answered labels. The means are those of `plumbline.core.metrics.figures`.
    """
    if output.task == "regression":
        return {"absolute_error": np.abs(outputs[:, 0] - truth)}
    labels = truth.astype(np.intp)
    squares = (outputs - np.eye(len(output.labels))[labels]) ** 2
    figures = {
        "accuracy": (called == labels).astype(np.float64),
        # Of two labels the positive one's alone: that of the other is the same.
        "brier": squares[:, 1] if output.task == "binary" else squares.sum(axis=1),
        "log_loss": -np.log(np.clip(outputs[np.arange(len(labels)), labels], TINY, 1 - TINY)),
    }
    if costs is not None:
        figures["cost"] = cost_matrix(output, costs)[labels, called]
    return figures


def cost_matrix(output: Output, costs: Costs) -> Floats:
    """What it costs, shape (true labels, answered labels)."""
    return np.array([[costs.get(one, {}).get(other, 0.0) for other in output.labels] for one in output.labels])
