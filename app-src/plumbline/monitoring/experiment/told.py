"""A verdict for people and machines."""

from datetime import datetime
from typing import Any

from plumbline.monitoring.experiment.readout import finite
from plumbline.monitoring.experiment.rows import Versions
from plumbline.monitoring.experiment.verdict import Look, Result, Test


def as_json(model: str, result: Result, versions: Versions, at: datetime) -> dict[str, Any]:
    """The verdict and its numbers as plain values; what is not known is null, never NaN."""
    return {
        "model": model, "at": at.isoformat(), "verdict": result.verdict, "reason": result.reason,
        "control": versions.control, "treatment": versions.treatment,
        "since": versions.since and versions.since.isoformat(), "split_p": finite(result.split_p),
        "looks": [
            {
                "weeks": look.weeks, "passed_over": look.passed_over,
                **{side: [_plain(test) for test in getattr(look, side)] for side in ("promote", "rollback")},
            }
            for look in result.looks
        ],
    }  # fmt: skip


def _plain(test: Test) -> dict[str, Any]:
    seen = test.evidence
    figures = {name: finite(getattr(seen, name)) for name in ("control", "treatment", "gain", "error", "freedom")}
    counts = {"rows": seen.rows, "callers": seen.callers}
    return {"rule": test.rule, "holds": test.holds, "z": finite(test.z), "bound": test.bound, **figures, **counts}


def as_text(result: Result, versions: Versions) -> str:
    """The verdict on the first line, then its reason and the numbers of every look."""
    since = f"since {versions.since:%Y-%m-%d %H:%M}Z" if versions.since else "of all time"
    lines = [
        result.verdict,
        f"  because: {result.reason}",
        f"  treatment {versions.treatment or 'none'} against control {versions.control or 'none'}, {since};"
        f" split p = {result.split_p:.3g}",
    ]
    for look in result.looks:
        lines += _look(look)
    return "\n".join(lines)


def _look(look: Look) -> list[str]:
    if look.passed_over:
        return [f"  look at {look.weeks} weeks: passed over, {look.passed_over}"]
    return [f"  look at {look.weeks} weeks:", *(_test(test) for test in (*look.promote, *look.rollback))]


def _test(test: Test) -> str:
    seen, mark = test.evidence, "holds" if test.holds else "open"
    arms = "the same rows" if seen.control != seen.control else f"{seen.control:.4g} → {seen.treatment:.4g}"
    return (
        f"    {test.rule}: {mark} (z {test.z:.3f}, bound {test.bound:.3f}; gain {seen.gain:+.4g} ± {seen.error:.2g},"
        f" {arms}; {seen.rows} rows, {seen.freedom:.0f} degrees of freedom)"
    )
