"""Minutes of a prediction log, dated over weeks: an experiment is judged after whole weeks, and a demo can't wait."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from plumbline.core.ids import prediction_id
from plumbline.monitoring.log.events import FEEDBACK, PREDICTIONS

LABELLED_AFTER = timedelta(hours=2)


def spread(source: str, target: str, days: float) -> int:
    """Copy the streams' answers to named callers, and their labels, dated evenly over the days up to now.

    Returns how many answers. The ids are new, as an id holds its moment; all else of an event stays.
    """
    with redis.Redis.from_url(source) as log, redis.Redis.from_url(target) as dated:
        answers = [event for event in _events(log, PREDICTIONS) if event["subject"]]
        start, step = datetime.now(UTC) - timedelta(days=days), timedelta(days=days) / max(1, len(answers))
        moments = {event["id"]: start + number * step for number, event in enumerate(answers)}
        names = {old: prediction_id(_milliseconds(moment)) for old, moment in moments.items()}
        for event in answers:
            _add(dated, PREDICTIONS, event | {"id": names[event["id"]]}, moments[event["id"]])
        labels = [event for event in _events(log, FEEDBACK) if event["prediction_id"] in names]
        # Two servers write, so that labels come in another order than the answers.
        for event in sorted(labels, key=lambda event: moments[event["prediction_id"]]):
            asked = event["prediction_id"]
            _add(dated, FEEDBACK, event | {"prediction_id": names[asked]}, moments[asked] + LABELLED_AFTER)
        return len(answers)


def _events(log: redis.Redis, stream: str) -> list[dict[str, Any]]:
    entries: Any = log.xrange(stream)
    return [json.loads(fields[b"event"]) for _, fields in entries]


def _add(dated: redis.Redis, stream: str, event: dict[str, Any], at: datetime) -> None:
    dated.xadd(stream, {"event": json.dumps(event | {"at": at.isoformat()})}, id=f"{_milliseconds(at)}-*")


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
