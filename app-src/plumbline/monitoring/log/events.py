"""Entries of the Redis streams as frozen types: what is not one is parked, never guessed at."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)
from pydantic import model_validator as model_check

from plumbline.core.feedback import LARGEST
from plumbline.core.ids import instant

PREDICTIONS = "predictions"
FEEDBACK = "feedback"
STREAMS = (PREDICTIONS, FEEDBACK)
WHOLE_ANSWER = -1
"""The row number of feedback on a bare prediction id: it means the only row of that answer."""

_REFERENCE = re.compile(r"(?P<id>[0-9a-fA-F-]{36})(:(?P<row>0|[1-9][0-9]{0,8}))?")
Truth = StrictStr | StrictInt | StrictFloat


class PoisonError(ValueError):
    """An entry that can never be stored; the message is the reason that is kept with it."""


class _Event(BaseModel):
    # A newer server may say more than this consumer knows: an unknown field must not park the log.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Answer(_Event):
    """One row's output as the server answered it: a label with its probability, or a value."""

    model_config = ConfigDict(extra="allow")

    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = Field(default_factory=dict)
    """Of every label, in the order of the model's schema: of two, the second is the positive one."""
    value: float | None = None

    @model_check(mode="after")
    def _says_something(self) -> Self:
        if self.label is None and self.value is None:
            raise ValueError("an output has a label or a value")
        return self

    @property
    def score(self) -> float | None:
        """The number that a distribution is drawn from: the value, else a probability.

        Of two labels that of the positive one, which does not fold at the threshold; of more, that of the answer.
        """
        if self.value is not None:
            return self.value
        return list(self.probabilities.values())[1] if len(self.probabilities) == 2 else self.probability


_EXACT = 2**53
# A caller may write the number 1e30 as an integer: it becomes the float that the model saw. Smaller ones are exact.
Value = StrictBool | float | Annotated[int, Field(ge=-_EXACT, le=_EXACT)] | str | tuple[StrictStr, ...] | None


class Prediction(_Event):
    """One answered request of n rows."""

    id: UUID
    at: AwareDatetime
    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]
    role: str = ""
    arm: str = ""
    subject: str = ""
    keyholder: str = ""
    request_id: str = ""
    columns: tuple[str, ...]
    data: Annotated[tuple[tuple[Value, ...], ...], Field(min_length=1)]
    """A row each, in the order of the columns; None is what is missing."""
    outputs: tuple[Answer, ...]
    ms: float
    missing_views: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """The rows of which a view is missing."""

    @model_check(mode="after")
    def _whole(self) -> Self:
        if len(self.data) != len(self.outputs):
            raise ValueError(f"{len(self.data)} rows have {len(self.outputs)} outputs")
        if any(len(row) != len(self.columns) for row in self.data):
            raise ValueError(f"a row has not as many values as there are columns, {len(self.columns)}")
        return self

    def missing_in(self, row: int) -> list[str]:
        """The views that are missing in a row."""
        return [view for view, rows in self.missing_views.items() if row in rows]

    @property
    def rows(self) -> list[dict[str, Value]]:
        """By name, without what is missing."""
        named = (zip(self.columns, row, strict=True) for row in self.data)
        return [{name: value for name, value in row if value is not None} for row in named]


class _FeedbackEvent(_Event):
    prediction_id: str
    at: AwareDatetime
    model: Annotated[str, Field(min_length=1)]
    truth: StrictStr | Annotated[StrictInt | StrictFloat, Field(ge=-LARGEST, le=LARGEST)]
    value: Annotated[float | None, Field(ge=-LARGEST, le=LARGEST)] = None
    keyholder: str = ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """One label of one row: `row` is WHOLE_ANSWER where the id carried no row number."""

    id: UUID
    row: int
    entry: tuple[int, int]
    """The stream entry (milliseconds, sequence): tells a repeated label from a redelivered one."""
    at: datetime
    model: str
    truth: Truth
    value: float | None
    keyholder: str = ""
    """Whose key said so; the rights of a key are the server's matter."""


@dataclass(frozen=True, slots=True)
class Window:
    """The times that an id may carry: what lies outside was not made by a server of this platform."""

    oldest: datetime
    newest: datetime

    @classmethod
    def around(cls, now: datetime, *, days: int) -> "Window":
        """Up to `days` before now, and a day ahead for clocks that run fast."""
        return cls(now - timedelta(days=days), now + timedelta(days=1))

    def check(self, identifier: UUID) -> datetime:
        """The id's time; raises PoisonError for one that is not a UUIDv7 or lies outside."""
        try:
            made = instant(identifier)
        except ValueError as error:
            raise PoisonError(str(error)) from error
        if not self.oldest <= made <= self.newest:
            raise PoisonError(f"{identifier}: its time {made:%Y-%m-%d} is not in {self.oldest:%F} … {self.newest:%F}")
        return made


def parse(stream: str, entry: str, fields: Mapping[str, bytes], window: Window) -> Prediction | Feedback:
    """One stream entry as a prediction or a feedback; raises PoisonError with the reason."""
    try:
        if stream == PREDICTIONS:
            prediction = Prediction.model_validate_json(_body(fields))
            window.check(prediction.id)
            return prediction
        return _feedback(_FeedbackEvent.model_validate_json(_body(fields)), entry, window)
    except ValidationError as error:
        raise PoisonError("; ".join(_problem(item) for item in error.errors(include_url=False)[:5])) from error


def _body(fields: Mapping[str, bytes]) -> bytes:
    try:
        return fields["event"]
    except KeyError as error:
        raise PoisonError(f"the entry has the fields {sorted(fields)}; expected one named event") from error


def _problem(item: Any) -> str:
    return f"{'.'.join(map(str, item['loc'])) or 'event'}: {item['msg']}"


def _feedback(event: _FeedbackEvent, entry: str, window: Window) -> Feedback:
    match = _REFERENCE.fullmatch(event.prediction_id)
    if match is None:
        raise PoisonError(f"prediction_id: {event.prediction_id!r:.80} is neither <id> nor <id>:<row>")
    try:
        identifier = UUID(match["id"])
    except ValueError as error:
        raise PoisonError(f"prediction_id: {match['id']} is not a UUID") from error
    window.check(identifier)
    row = WHOLE_ANSWER if match["row"] is None else int(match["row"])
    milliseconds, sequence = entry.split("-")
    return Feedback(
        identifier,
        row,
        (int(milliseconds), int(sequence)),
        event.at.astimezone(UTC),
        event.model,
        event.truth,
        event.value,
        event.keyholder,
    )
