"""Bounds for a test that is looked at several times: alpha spending with the O'Brien-Fleming-type function.

Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70 (1983): the error that may be spent
up to information fraction t is 2 - 2 Φ(z / √t), which is next to nothing early and all of it at t = 1. The bounds
follow by recursive integration over what has not crossed yet: Armitage, McPherson and Rowe, JRSS A 132 (1969);
Jennison and Turnbull, "Group Sequential Methods" (2000), chapter 19.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm

Floats = npt.NDArray[np.float64]
_NODES = 300


def spent(alpha: float, fractions: Floats) -> Floats:
    """The one-sided error that may have been used up at each information fraction, O'Brien-Fleming-type."""
    return np.asarray(2 * norm.sf(norm.isf(alpha / 2) / np.sqrt(fractions)))


@lru_cache
def bounds(alpha: float, fractions: tuple[float, ...]) -> tuple[float, ...]:
    """The z-values that end a two-sided test at each look, with error alpha / 2 on either side in all.

    fractions: the information at each look over that of the last, rising strictly to 1. Looks that are left out
    only make the test stricter.
    """
    times = np.array(fractions, dtype=np.float64)
    if not len(times) or times[0] <= 0 or times[-1] != 1 or (np.diff(times) <= 0).any():
        raise ValueError(f"information fractions must rise strictly from above 0 to 1: {list(fractions)}")
    spend = np.diff(spent(alpha / 2, times), prepend=0)
    z_values = [float(norm.isf(spend[0]))]
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # Work on the scale of a Brownian motion B(t) = Z √t: `mass` is the density of B at `points`, times the weights,
    # among the paths that have stayed inside all bounds so far.
    edge = z_values[0] * np.sqrt(times[0])
    points = nodes * edge
    mass = weights * edge * norm.pdf(points, scale=np.sqrt(times[0]))
    for k in range(1, len(times)):
        step = np.sqrt(times[k] - times[k - 1])

        def excess(z: float, k: int = k, step: float = step, points: Floats = points, mass: Floats = mass) -> float:
            return float(mass @ norm.sf((z * np.sqrt(times[k]) - points) / step) - spend[k])

        z_values.append(float(brentq(excess, 0, 20)))
        edge = z_values[-1] * np.sqrt(times[k])
        ahead = nodes * edge
        mass = weights * edge * (norm.pdf((ahead[:, None] - points) / step) @ mass) / step
        points = ahead
    return tuple(z_values)
