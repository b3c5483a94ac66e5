"""How many trials a simulation makes, and the figures that it measured, shown at the end for docs/verdicts.md."""

import os
from collections.abc import Callable

import pytest

FULL = os.environ.get("VERDICTS") == "full"
_MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture
def trials() -> Callable[[int, int], int]:
    """`trials(few, many)`: few in `make test`, in seconds; many in `make verdicts`, which gives the figures."""
    return lambda few, many: many if FULL else few


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`measured(claim, figure)`: shown when all is done, as a row for docs/verdicts.md."""
    lines = request.config.stash.setdefault(_MEASURED, [])
    return lambda claim, figure: lines.append(f"{claim}: {figure}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures, in the order in which they were measured."""
    if lines := config.stash.get(_MEASURED, []):
        terminalreporter.section(f"measured {'in full' if FULL else 'with few trials'}")
        terminalreporter.write_line("\n".join(lines))
