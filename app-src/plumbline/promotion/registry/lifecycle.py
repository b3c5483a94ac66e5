"""The life cycle of a version as a state machine: None → Staging → Production → Archived."""

from enum import StrEnum

from plumbline.core.errors import Refused


class Lifecycle(StrEnum):
    """Where a version stands; the registry holds it as the tag `lifecycle`."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


LEGAL: dict[Lifecycle, frozenset[Lifecycle]] = {
    Lifecycle.NONE: frozenset({Lifecycle.STAGING, Lifecycle.ARCHIVED}),
    Lifecycle.STAGING: frozenset({Lifecycle.PRODUCTION, Lifecycle.ARCHIVED}),
    # A version that another environment still serves goes back one step when production leaves it.
    Lifecycle.PRODUCTION: frozenset({Lifecycle.STAGING, Lifecycle.ARCHIVED}),
    # A rollback in git serves an archived version again; the registry follows through Staging.
    Lifecycle.ARCHIVED: frozenset({Lifecycle.STAGING}),
}


def check_move(current: Lifecycle, target: Lifecycle, *, rejected: bool) -> None:
    """Raise Refused unless `current` → `target` is legal. A rejected version can only be archived."""
    if rejected and target is not Lifecycle.ARCHIVED:
        raise Refused(f"life cycle: a rejected version can only be Archived, not {target}")
    if target not in LEGAL[current]:
        legal = ", ".join(sorted(LEGAL[current]))
        raise Refused(f"life cycle: {current} → {target} is not a legal move; from {current}: {legal}")


def path_to(current: Lifecycle, target: Lifecycle) -> tuple[Lifecycle, ...]:
    """The legal moves that lead to `target`; empty where it stands there already.

    Only a rollback needs two: Archived → Staging → Production. None → Production is not walked through, it is
    refused: a version that no staging environment has served is not production's.
    """
    if current is target:
        return ()
    if (current, target) == (Lifecycle.ARCHIVED, Lifecycle.PRODUCTION):
        return (Lifecycle.STAGING, Lifecycle.PRODUCTION)
    return (target,)
