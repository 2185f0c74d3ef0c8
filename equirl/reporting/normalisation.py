"""Returns of different environments on one scale."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

SCORES = ("final", "area")
"""What is normalised."""


@dataclass(frozen=True)
class Scale:
    """What counts as 0 and as 1 in one environment.

    Args:
        zero: mean return of the baseline's first evaluations, of agents that have hardly learned.
        one: the threshold; without one, the best evaluation of any run.
    """

    zero: float
    one: float

    @property
    def is_usable(self) -> bool:
        """Whether there is anything to be gained between the two."""
        return self.one > self.zero


def scales_of(measures: pd.DataFrame, baseline: str) -> dict[str, Scale]:
    """The scale of every environment; without runs of the baseline, 0 is taken from all runs."""
    scales = {}
    for env, own in measures.groupby("env", sort=False):
        beside = own[own.method == baseline]
        threshold = own.threshold.iloc[0]
        one = own.best.max() if pd.isna(threshold) else threshold
        scales[str(env)] = Scale(
            float((beside if len(beside) else own)["first"].mean()), float(one)
        )
    return scales


def normalised(measures: pd.DataFrame, scales: dict[str, Scale]) -> pd.DataFrame:
    """With columns ``normalised_final`` and ``normalised_area``, (R − zero) / (one − zero).

    NaN where the scale is not usable.
    """
    zero = measures.env.map({env: scale.zero for env, scale in scales.items()})
    one = measures.env.map({env: s.one for env, s in scales.items() if s.is_usable})
    columns = {f"normalised_{score}": (measures[score] - zero) / (one - zero) for score in SCORES}
    return measures.assign(**columns)
