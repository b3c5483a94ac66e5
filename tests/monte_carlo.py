"""Shares of simulations against the share that is claimed, with room for chance and for nothing else."""

from scipy.stats import binomtest

CHANCE = 1e-3
"""How improbable a count must be before a test calls the claim false."""


def is_at_most(hits: int, trials: int, share: float) -> bool:
    """Whether so many hits can be chance where the true share is at most this one (one-sided exact binomial test)."""
    return bool(binomtest(hits, trials, share, alternative="greater").pvalue >= CHANCE)


def is_at_least(hits: int, trials: int, share: float) -> bool:
    """Whether so few hits can be chance where the true share is at least this one (one-sided exact binomial test)."""
    return bool(binomtest(hits, trials, share, alternative="less").pvalue >= CHANCE)
