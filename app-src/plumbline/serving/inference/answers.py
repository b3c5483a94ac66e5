"""What an answer looks like: the JSON of one prediction, made straight from the model's numbers."""

import math
from collections.abc import Sequence

import numpy as np
import orjson
from pydantic_core import to_json

from plumbline.core.schema import Output
from plumbline.serving.errors import FieldError, Problem, invalid
from plumbline.serving.inference.model import Matrix

DEFAULT_THRESHOLD = 0.5


class Answers:
    """Renders the output rows of a model as the JSON of predictions."""

    def __init__(self, output: Output, threshold: float | None) -> None:
        self.output = output
        self.threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        self._heads = [f'{{"label":{_text(label)},"probability":' for label in output.labels]
        self._names = [f"{_text(label)}:" for label in output.labels]
        # Of a batch: texts in the even places, numbers in the odd ones. A row begins with the end of the one before.
        self._end = b"}}" if self._heads else b"}"
        self._starts = [self._end + b"," + head.encode() for head in self._heads or ['{"value":']]
        texts = [(',"probabilities":{' if index == 0 else ",") + name for index, name in enumerate(self._names)]
        self._row = [b"", b"", *(piece for text in texts for piece in (text.encode(), b""))]

    def label_index(self, row: Sequence[float]) -> int:
        """Which label is answered: of a binary model by the release's threshold, else the most probable."""
        if self.output.task == "binary":
            return int(row[1] >= self.threshold)
        return row.index(max(row))

    def label_indexes(self, outputs: Matrix) -> list[int]:
        """The same for many rows."""
        if self.output.task == "binary":  # as float64, or the threshold would be rounded to the outputs' float32
            return (outputs[:, 1].astype(np.float64) >= self.threshold).astype(int).tolist()  # type: ignore[no-any-return]
        return outputs.argmax(axis=1).tolist()  # type: ignore[no-any-return]

    def render(self, row: Sequence[float]) -> str:
        """`{"value": …}` or `{"label", "probability", "probabilities"}`; the probability is that of the label.

        Numbers are printed so that they read back as the model's float32, bit by bit. Raises Problem where the model
        has no finite answer, which JSON could not carry.
        """
        if not all(map(math.isfinite, row)):
            raise _not_finite()
        if not self._heads:
            return f'{{"value":{row[0]!r}}}'
        index = self.label_index(row)
        pairs = ",".join([f"{name}{value!r}" for name, value in zip(self._names, row, strict=True)])
        return f'{self._heads[index]}{row[index]!r},"probabilities":{{{pairs}}}}}'

    def render_all(self, outputs: Matrix) -> bytes:
        """The same for many rows, with commas between: printed and joined as a whole, in a quarter of the time."""
        if not np.isfinite(outputs).all():
            raise _not_finite()
        rows, width = outputs.shape
        numbers = orjson.dumps(outputs.ravel().astype(np.float64), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        pieces, step = self._row * rows, len(self._row)
        if self._heads:
            indexes = self.label_indexes(outputs)
            pieces[::step] = [self._starts[index] for index in indexes]
            pieces[1::step] = [numbers[width * row + index] for row, index in enumerate(indexes)]
            for index in range(width):
                pieces[3 + 2 * index :: step] = numbers[index::width]
        else:
            pieces[::step] = self._starts * rows
            pieces[1::step] = numbers
        return b"".join(pieces)[len(self._end) + 1 :] + self._end


def _text(value: str) -> str:
    return to_json(value).decode()


def _not_finite() -> Problem:
    return invalid([FieldError("features", "has no finite answer", "values that the model has an answer for")])
