"""How large one family of evidence is, in standard deviations over random roles of the units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from equirl.verification.statistics.encoding import FloatArray


@dataclass(frozen=True)
class Scores:
    """One family of T for one quantity.

    Args:
        family: ``"averages"``, ``"trees"`` or ``"counts"``.
        sums: per role shift, unit and function, ``[K, units, J]``; shift 0 is what happened.
        allowance: what |T| may be by imperfect regressions, ``[J]``.
        is_one_sided: whether only large T speak against the symmetry.
    """

    family: str
    sums: FloatArray
    allowance: FloatArray
    is_one_sided: bool

    def sizes(self, totals: FloatArray, allowance: FloatArray | float = 0.0) -> FloatArray:
        """``[..., J]`` sums over units -> in standard deviations, without sign if two-sided."""
        deviation = self.deviation
        size = (totals if self.is_one_sided else np.abs(totals)) - allowance
        scaled: FloatArray = np.where(deviation > 1e-9, size / np.maximum(deviation, 1e-300), -9.0)
        return scaled

    @cached_property
    def deviation(self) -> FloatArray:
        """Standard deviation of T over random roles, ``[J]``."""
        deviation: FloatArray = np.sqrt(np.square(self.sums).mean(axis=0).sum(axis=0))
        return deviation

    @property
    def observed(self) -> FloatArray:
        """``[J]``."""
        return self.sizes(self.sums[0].sum(axis=0), self.allowance)
