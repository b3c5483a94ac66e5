import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from plumbline.core import ids
from plumbline.monitoring.log.events import WHOLE_ANSWER, Feedback, PoisonError, Prediction, Window, parse

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ID = str(UUID(int=ids.floor(NOW).int | 0x7 << 76 | 0x2 << 62))
WINDOW = Window.around(NOW, days=90)
PREDICTION: dict[str, Any] = {
    "id": ID, "at": "2026-11-23T12:00:00Z", "model": "flights", "version": "v1.0.0", "role": "stable", "arm": "",
    "subject": "", "request_id": "r", "columns": ["distance", "carrier", "wind"], "data": [[1.5, "UA", None]],
    "outputs": [{"label": "late", "probability": 0.7, "probabilities": {"on time": 0.3, "late": 0.7}}], "ms": 0.8,
}  # fmt: skip
FEEDBACK: dict[str, Any] = {
    "prediction_id": ID, "at": "2026-11-23T12:00:00Z", "model": "flights", "truth": "late", "value": None,
}  # fmt: skip


def read(stream: str, event: Any) -> Prediction | Feedback:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return parse(stream, "1700000000000-3", {"event": body}, WINDOW)


def test_a_prediction() -> None:
    event = read("predictions", PREDICTION | {"a_newer_server": "says more"})
    assert isinstance(event, Prediction)
    assert event.rows == [{"distance": 1.5, "carrier": "UA"}]
    assert event.outputs[0].score == 0.7


def test_the_score_is_the_positive_label_of_two_and_the_answered_one_of_more() -> None:
    def score(answer: dict[str, Any]) -> float | None:
        event = read("predictions", PREDICTION | {"outputs": [answer]})
        assert isinstance(event, Prediction)
        return event.outputs[0].score

    two = {"label": "on time", "probability": 0.8, "probabilities": {"on time": 0.8, "late": 0.2}}
    three = {"label": "b", "probability": 0.5, "probabilities": {"a": 0.2, "b": 0.5, "c": 0.3}}
    assert (score(two), score(three), score({"label": "b"})) == (0.2, 0.5, None)


def test_a_regression_answer_scores_its_value() -> None:
    event = read("predictions", PREDICTION | {"outputs": [{"value": -3.5}]})
    assert isinstance(event, Prediction)
    assert event.outputs[0].score == -3.5


def test_an_integer_that_no_float_holds_is_the_number_that_the_model_saw() -> None:
    values = [2**53, 10**30, 3, 3.0]
    event = read("predictions", PREDICTION | {"columns": list("abcd"), "data": [values]})
    assert isinstance(event, Prediction)
    assert repr(event.rows) == repr([{"a": 2**53, "b": 1e30, "c": 3, "d": 3.0}])


@pytest.mark.parametrize(("suffix", "row"), [("", WHOLE_ANSWER), (":0", 0), (":17", 17)])
@pytest.mark.parametrize("truth", ["late", 3, 2.5])
def test_feedback(suffix: str, row: int, truth: str | float) -> None:
    event = read("feedback", FEEDBACK | {"prediction_id": ID + suffix, "truth": truth, "value": 4.5})
    assert isinstance(event, Feedback)
    assert (event.row, event.truth, event.value, event.entry) == (row, truth, 4.5, (1700000000000, 3))


def aged(days: float) -> str:
    return str(UUID(int=ids.floor(NOW + timedelta(days=days)).int | 0x7 << 76 | 0x2 << 62))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "nonsense"}, "id: Input should be a valid UUID"),
        ({"id": "11111111-1111-4111-8111-111111111111"}, "not a UUIDv7"),
        ({"id": aged(-91)}, "its time 2026-08-24 is not in"),
        ({"id": aged(2)}, "its time 2026-11-25 is not in"),
        ({"at": "2026-11-23T12:00:00"}, "at: Input should have timezone info"),
        ({"model": ""}, "model: String should have at least 1"),
        ({"outputs": []}, "1 rows have 0 outputs"),
        ({"outputs": [{}]}, "an output has a label or a value"),
        ({"data": [[1.5, [1], None]]}, "data.0.1"),
        ({"data": [[1.5, "UA"]]}, "not as many values as there are columns, 3"),
        ({"data": [], "outputs": []}, "data: Tuple should have at least 1"),
        ({"outputs": [{"value": float("nan")}]}, "outputs.0.value: Input should be a finite number"),
        ({"data": [[float("inf"), "UA", None]]}, "data.0.0"),
    ],
)
def test_a_prediction_that_cannot_be_kept_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(PoisonError) as caught:
        read("predictions", PREDICTION | change)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prediction_id": "x"}, "neither <id> nor <id>:<row>"),
        ({"prediction_id": "-" * 36}, "is not a UUID"),
        ({"prediction_id": ID + ":-1"}, "neither <id> nor <id>:<row>"),
        ({"prediction_id": ID + ":9999999999"}, "neither <id> nor <id>:<row>"),
        ({"prediction_id": ID + ":1\u0662"}, "neither <id> nor <id>:<row>"),
        ({"truth": None}, "truth"),
        ({"truth": True}, "truth"),
        ({"truth": float("nan")}, "truth"),
        ({"value": "many"}, "value: Input should be a valid number"),
    ],
)
def test_feedback_that_cannot_be_kept_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(PoisonError) as caught:
        read("feedback", FEEDBACK | change)
    assert reason in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"{", b"[" * 100_000])
def test_what_is_no_event_is_poison(body: bytes) -> None:
    for stream in ("predictions", "feedback"):
        with pytest.raises(PoisonError):
            read(stream, body)


def test_an_entry_without_event_names_its_fields() -> None:
    with pytest.raises(PoisonError, match=r"\['data'\]; expected one named event"):
        parse("predictions", "1-1", {"data": b""}, WINDOW)
