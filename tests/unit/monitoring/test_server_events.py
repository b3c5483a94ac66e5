"""What the server writes is what the consumer reads: the server's own encoder against the consumer's own parser."""

import time
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import pytest

from plumbline.core import ids
from plumbline.core.schema import Output
from plumbline.monitoring.log.events import Prediction, Window, parse
from plumbline.serving.events import Event, PredictionLog
from plumbline.serving.inference.answers import Answers
from plumbline.serving.metrics import Metrics

AS_WRITTEN = b'"data": [ [1.50, "U\\u0022A", null], [2, "DL", 3] ], "columns": ["distance", "carrier", "wind"]'
LABELS = {"binary": ("on time", "late"), "multiclass": ("a", "b", "c"), "regression": ()}


@pytest.mark.parametrize(
    ("task", "row", "label", "score"),
    [
        ("binary", [0.25, 0.75], "late", 0.75),
        ("binary", [0.75, 0.25], "on time", 0.25),
        ("multiclass", [0.25, 0.5, 0.25], "b", 0.5),
        ("regression", [-12.5], None, -12.5),
    ],
)
@pytest.mark.parametrize("text", [None, AS_WRITTEN])
def test_an_event_of_the_server(
    task: str, row: list[float], label: str | None, score: float, text: bytes | None
) -> None:
    output = Output.model_validate({"task": task, "name": "y", "description": "", "labels": LABELS[task]})
    outputs = Answers(output, None).render_all(np.array([row, row], np.float32))
    metrics = Metrics()
    metrics.bind("flights", "v1.2.3", "canary")
    rows = [(1.5, 'U"A', None), (2, "DL", 3.0)]
    event = Event(ids.prediction_id(), time.time(), "r-1", "b", "me", rows, outputs, 0.0008, text, "0123456789ab",
                  {"weather": [1]})  # fmt: skip
    body = PredictionLog(cast(Any, None), ("distance", "carrier", "wind"), 10, 10, metrics).encode(event)

    read = parse("predictions", "1-0", {"event": body}, Window.around(datetime.now(UTC), days=1))
    assert isinstance(read, Prediction)
    assert str(read.id) == event.id
    assert (read.model, read.version, read.role, read.arm, read.subject) == ("flights", "v1.2.3", "canary", "b", "me")
    assert read.rows == [{"distance": 1.5, "carrier": 'U"A'}, {"distance": 2, "carrier": "DL", "wind": 3.0}]
    assert [(item.label, item.score) for item in read.outputs] == [(label, score)] * 2
    assert (read.ms, read.keyholder) == (0.8, "0123456789ab")
    assert [read.missing_in(0), read.missing_in(1)] == [[], ["weather"]]
    assert abs(read.at.timestamp() - event.at) < 0.01
