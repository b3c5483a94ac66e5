"""Verdicts in the database: written by the command that judges, read by the consumers' metrics."""

import json
from typing import Any

import psycopg


def keep(connection: psycopg.Connection[Any], result: dict[str, Any]) -> None:
    """Store the verdict on a version in the place of the one before; without a version there is nothing to store."""
    if result["treatment"] is not None:
        connection.execute(
            "INSERT INTO monitoring.experiment_verdicts VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (model, treatment) DO UPDATE SET at = excluded.at, result = excluded.result",
            [result["model"], result["treatment"], result["at"], json.dumps(result)],
        )


def newest(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """The verdict on the version of each model that was judged last."""
    rows = connection.execute(
        "SELECT DISTINCT ON (model) result FROM monitoring.experiment_verdicts ORDER BY model, at DESC"
    )
    return [result for (result,) in rows]
