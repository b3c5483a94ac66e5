"""The log as SQL: every predicted row of a model with its newest label.

A label names a row by the answer's id and its number; a bare id means the only row. Of several labels the last one
in the stream wins; `labelled_ms` is when the first one came. A number beyond the bounds of core/feedback.py that a
consumer of before stored is left out: its square would make every sum fail.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, LiteralString

from plumbline.core.feedback import LARGEST
from plumbline.core.ids import floor

ROWS: LiteralString = """
    WITH label AS (
        SELECT p.id, p.row, min(f.entry_ms) AS labelled_ms,
               (array_agg(f.truth ORDER BY f.entry_ms DESC, f.entry_sequence DESC))[1] AS truth,
               (array_agg(f.value ORDER BY f.entry_ms DESC, f.entry_sequence DESC))[1] AS value
        FROM monitoring.feedback f
        JOIN monitoring.predictions p ON p.id = f.id AND p.row = greatest(f.row, 0) AND (f.row >= 0 OR p.rows = 1)
        WHERE p.model = %(model)s AND p.id >= %(low)s AND p.id < %(high)s AND f.id >= %(low)s AND f.id < %(high)s
        GROUP BY p.id, p.row
    ), rows AS (
        SELECT p.*, label.labelled_ms, label.truth,
               CASE WHEN abs(label.value) <= %(largest)s THEN label.value END AS value,
               -- Without a subject every request counts as a caller of its own.
               coalesce(nullif(p.subject, ''), p.id::text) AS caller,
               CASE WHEN p.label IS NOT NULL THEN (label.truth #>> '{}' = p.label)::int::float8 END AS accuracy,
               CASE WHEN p.label IS NULL AND jsonb_typeof(label.truth) = 'number'
                    THEN CASE WHEN abs(label.truth::numeric) <= %(largest)s
                              THEN p.score - label.truth::float8 END END AS error
        FROM monitoring.predictions p LEFT JOIN label USING (id, row)
        WHERE p.model = %(model)s AND p.id >= %(low)s AND p.id < %(high)s
    )
"""


def window(model: str, since: datetime | None, until: datetime | None = None) -> dict[str, Any]:
    """The parameters of ROWS: predictions made from `since` on and before `until`; None is no limit."""
    return {
        "model": model,
        # Decimal: a label may have more digits than a double, in which PostgreSQL would compare it otherwise.
        "largest": Decimal(LARGEST),
        "low": floor(since or datetime(1970, 1, 1, tzinfo=UTC)),
        "high": floor(until or datetime(9999, 1, 1, tzinfo=UTC)),
    }
