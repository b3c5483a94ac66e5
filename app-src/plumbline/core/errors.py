"""How a command ends: one table of exit codes, and an error for each way that is not well.

| code | means | a Workflow |
| --- | --- | --- |
| 0 | done | goes on |
| 1 | an accident: a service is away, a connection broke | tries again |
| 2 | used wrongly: an option, a setting, a file of a person | ends |
| 10 | refused by a rule | ends |
| 11 | inconclusive: what would decide is missing | ends |
| 130 | stopped by Ctrl-C | |

A program that crashes ends with 1 too: nobody judged anything, so trying again is right.
"""


class PlumblineError(Exception):
    """Nothing was changed; the message names what, why, and what to do. By itself an accident."""

    exit_code = 1
    word = "failed"


class Accident(PlumblineError, RuntimeError):
    """A service or a connection failed; the same call may go through later."""


class Misuse(PlumblineError, ValueError):
    """Used wrongly: the message names the option, setting or file, and what was expected."""

    exit_code = 2
    word = "error"


class Refused(PlumblineError):
    """Judged, and against the rules."""

    exit_code = 10
    word = "refused"


class Inconclusive(PlumblineError):
    """Could not be judged, since a figure or a record is missing: never a pass."""

    exit_code = 11
    word = "inconclusive, so no"
