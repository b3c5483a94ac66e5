"""Checks of canaries in the database: written by the command that makes them, read by the consumers' metrics."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:  # it takes what the consumers do without
    from plumbline.monitoring.canary.check import Checked

_SHOWN = timedelta(days=1)


def as_json(checked: "Checked") -> dict[str, Any]:
    """The figures as plain values; those of stable are null where it was not asked."""
    replay, stable = checked.replay, checked.stable
    return {
        "model": checked.model, "version": checked.version, "at": checked.at.isoformat(), "rows": replay.rows,
        "different": replay.different, "furthest": replay.furthest, "one_caller": replay.one_caller,
        "stable_rows": stable and stable.rows, "stable_different": stable and stable.different,
        "unexpected": list(checked.unexpected), "reason": checked.reason,
    }  # fmt: skip


def as_text(checked: "Checked") -> str:
    """The same for people."""
    replay, stable = checked.replay, checked.stable
    lines = [
        f"{checked.model} {checked.version}: {replay.different} of {replay.rows} answers are not the signed model's"
    ]
    if replay.different:
        whose = "one caller's, " if replay.one_caller else ""
        lines.append(f"  {whose}the worst is {replay.furthest:.3g} away: {replay.example}")
    lines.append(f"  of stable {stable.different} of {stable.rows}" if stable else "  stable was not asked")
    lines += [f"  not as the gate saw it: {where}" for where in checked.unexpected]
    lines += [f"  not held against the gate's holdout: {checked.reason}"] if checked.reason else []
    return "\n".join(lines)


def keep(connection: psycopg.Connection[Any], result: dict[str, Any]) -> None:
    """Store the check of a version in the place of the one before."""
    connection.execute(
        "INSERT INTO monitoring.canary_checks VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (model, version) DO UPDATE SET at = excluded.at, result = excluded.result",
        [result["model"], result["version"], result["at"], json.dumps(result)],
    )


def newest(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Those of the last day."""
    since = datetime.now(UTC) - _SHOWN
    rows = connection.execute("SELECT result FROM monitoring.canary_checks WHERE at >= %s", [since]).fetchall()
    return [result for (result,) in rows]
