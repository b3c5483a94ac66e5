"""The two ways in which promotion says no; a command's exit code is the error's."""


class PromotionError(Exception):
    """Nothing was changed; the message names what, why, and what to do."""

    exit_code = 1


class Refused(PromotionError):
    """Judged, and against the rules: exit code 1."""


class Inconclusive(PromotionError):
    """Could not be judged (a service is down, a figure is missing): never a pass, exit code 3."""

    exit_code = 3
