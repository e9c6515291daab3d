"""Wilson's interval of a proportion, for the exports and for the reports of `app`."""

import math
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson_interval(found: float, count: int) -> tuple[float, float]:
    """Return both ends of the 95% score interval of `found / count` (Wilson, 1927).

    It has a width even if `found` is 0 or `count`. It needs no SciPy.

    Args:
        found: how many of the samples have the property; from 0 to `count`.
        count: number of samples, at least one.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, scale = found / count, 1 + z**2 / count
    middle = (share + z**2 / (2 * count)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # rounding must not leave the value outside
    return min(max(middle - reach, 0.0), share), max(min(middle + reach, 1.0), share)
