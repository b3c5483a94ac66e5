"""Drift checks in the database: written by the command that makes them, read by the consumers' metrics."""

import json
from typing import Any

import psycopg


def keep(connection: psycopg.Connection[Any], result: dict[str, Any]) -> None:
    """Store what a check found; the same check again changes nothing."""
    connection.execute(
        "INSERT INTO monitoring.drift_checks VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [result["model"], result["until"], json.dumps(result)],
    )


def newest(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """The last check of each model."""
    rows = connection.execute(
        "SELECT DISTINCT ON (model) result FROM monitoring.drift_checks ORDER BY model, until DESC"
    )
    return [result for (result,) in rows]
