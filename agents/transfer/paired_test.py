"""Whether one agent is better than another, by episodes that both have played."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-9
"""Returns that differ by less than this times the largest are the same sum in another order."""


def is_better(returns: npt.ArrayLike, others: npt.ArrayLike, level: float, fewest: int = 2) -> bool:
    """Whether returns are above others', by a one-sided paired t-test.

    Where all differences are the same, one that is above zero is enough.

    Args:
        returns: of each episode, ``[episodes]``.
        others: of the same episodes; where one is longer, the first ones of it.
        level: of the test.
        fewest: episodes below which nothing is certain.
    """
    mine, theirs = np.asarray(returns, np.float64), np.asarray(others, np.float64)
    episodes = min(len(mine), len(theirs))
    if episodes < fewest:
        return False
    gains = mine[:episodes] - theirs[:episodes]
    rounding = ROUNDING * max(np.abs(mine).max(), np.abs(theirs).max())
    if gains.std() <= rounding:
        return bool(gains.mean() > rounding)
    from scipy import stats  # a second, which training need not

    return bool(stats.ttest_1samp(gains, 0, alternative="greater").pvalue < level)
