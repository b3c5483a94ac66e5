"""Lines with the time since the start and, where the work was measured before, what is left."""

import sys
import time


class Progress:
    """Prints to standard error, one line an event; `total` is the expected number of seconds, 0 if unknown."""

    def __init__(self, total: int = 0) -> None:
        self._start = time.monotonic()
        self._total = total
        self._expected = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print one line."""
        left = f", about {max(0, self._total - self._expected)} s left" if self._total else ""
        sys.stderr.write(f"[{self.seconds:6.1f} s{left}] {text}\n")
        sys.stderr.flush()

    def done(self, expected: int) -> None:
        """Count a step of `expected` seconds as finished."""
        self._expected += expected
