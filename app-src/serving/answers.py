"""What an answer looks like: the JSON of one prediction, made straight from the model's numbers."""

import math
from collections.abc import Sequence

from features import Output
from pydantic_core import to_json

from serving.errors import FieldError, invalid

DEFAULT_THRESHOLD = 0.5


class Answers:
    """Renders the output row of a model as the JSON of a prediction."""

    def __init__(self, output: Output, threshold: float | None) -> None:
        self.output = output
        self.threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        self._heads = [f'{{"label":{_text(label)},"probability":' for label in output.labels]
        self._names = [f"{_text(label)}:" for label in output.labels]

    def label_index(self, row: Sequence[float]) -> int:
        """Which label is answered: of a binary model by the release's threshold, else the most probable."""
        if self.output.task == "binary":
            return int(row[1] >= self.threshold)
        return row.index(max(row))

    def render(self, row: Sequence[float]) -> str:
        """`{"value": …}` or `{"label", "probability", "probabilities"}`; the probability is that of the label.

        Numbers are printed so that they read back as the model's float32, bit by bit. Raises Problem where the model
        has no finite answer, which JSON could not carry.
        """
        if not all(map(math.isfinite, row)):
            raise invalid([FieldError("features", "has no finite answer", "values that the model has an answer for")])
        if not self._heads:
            return f'{{"value":{row[0]!r}}}'
        index = self.label_index(row)
        pairs = ",".join([f"{name}{value!r}" for name, value in zip(self._names, row, strict=True)])
        return f'{self._heads[index]}{row[index]!r},"probabilities":{{{pairs}}}}}'

    def score(self, row: Sequence[float]) -> float:
        """The number whose distribution is watched: a value, the positive label's probability, or the highest one."""
        if self.output.task == "binary":
            return row[1]
        return max(row) if self._heads else row[0]


def _text(value: str) -> str:
    return to_json(value).decode()
