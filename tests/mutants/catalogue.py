"""Every known-bad release, how it is brought in, and the rule that must stop it."""

from collections.abc import Callable
from dataclasses import dataclass

from mutants.world import World

GATE, REGISTRATION, SERVER = "gate", "registration", "server"
AUDIT, VALIDATE, APPROVAL = "audit of the pull request", "`tree validate`", "gate: approval"
ADMISSION = "admission"


@dataclass(frozen=True)
class Mutant:
    """A release that nobody may serve, and what says so."""

    name: str
    """What was done."""
    at: str
    """Where it is stopped."""
    by: str
    """By which rule, in words."""
    said: str
    """What the refusal must say, a regular expression: another reason would be luck."""
    bring: Callable[[World], object]
    """Raises the refusal, or returns it."""
