"""Which entries depend on which, as numbers that a symmetry must leave as they are.

Entries of observations and actions are one vector z = (s, a). If g is a symmetry, then for the
means μ and covariances C of z, and the matrix M of a linear regression of s' − s on z,

    g μ = μ,      g C gᵀ = C,      g_s M gᵀ = M,

and likewise for the regressions of rewards and terminations, which g leaves alone. All this is so
if episodes begin symmetrically, up to chance, which a jackknife over episodes tells; if they do
not, roughly, as far as states are visited evenly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equirl.verification.play import Play
from equirl.verification.statistics.learners import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

GROUPS = 50
"""Of episodes, each left out in turn; with few episodes, of stretches of them."""

LEAST_EPISODES = 8

STRETCH = 100
"""Steps."""

LEAST_STRETCHES = 20
"""An entry that varies in fewer is left alone: too little was seen of it."""

ERRORS = 5.5
"""Standard errors by which two numbers may differ that ought to be equal."""

NEARLY = 0.02
"""Besides, as a fraction of what the entries vary: robots are built nearly symmetrically."""

# The same where episodes may begin unevenly: of means and covariances, and of regressions.
UNEVEN_VISITS, UNEVEN_EFFECTS, UNEVEN_LEAN = 0.25, 0.1, 1.0

FAR = 6.0
"""Standard deviations at which a moved state is one that is never visited."""

RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Block:
    """Some entries that g moves among themselves.

    Args:
        entries: which, ``[k]``.
        matrix: how, ``[k, k]``.
    """

    entries: IntArray
    matrix: FloatArray


@dataclass(frozen=True)
class Estimate:
    """Numbers, what they would be without each of the groups, and what counts as large.

    Args:
        value: ``[N]`` or ``[N, N]``.
        without: ``[groups, N]`` or ``[groups, N, N]``.
        scale: as ``value``, in the same units.
        uneven: the fraction of ``scale`` that uneven visits may make.
    """

    value: FloatArray
    without: FloatArray
    scale: FloatArray
    uneven: float

    @property
    def error(self) -> FloatArray:
        """The standard error, by the jackknife."""
        return _jackknifed(self.without)

    def excess(self, rows: Block, columns: Block, nearly: float) -> float:
        """By how many standard errors g moves the numbers, beyond what is no matter.

        Args:
            rows: of the numbers, and how g moves them.
            columns: likewise; not looked at where the numbers are of single entries.
            nearly: the fraction of ``scale`` that is no matter.
        """
        left, weights = rows.matrix, np.abs(rows.matrix)
        if self.value.ndim == 1:
            every = np.vstack([self.value[None], self.without])[:, rows.entries]
            scale = self.scale[rows.entries]
            apart, scale = every @ left.T - every, np.maximum(scale, weights @ scale)
        else:
            right = columns.matrix
            block = np.ix_(rows.entries, columns.entries)
            every = np.concatenate([self.value[None], self.without])
            every = every[:, block[0], block[1]]
            scale = self.scale[block]
            apart = left @ every @ right.T - every
            scale = np.maximum(scale, weights @ scale @ np.abs(right).T)
        beyond = np.abs(apart[0]) - nearly * scale - 1e-9
        errors = beyond / np.maximum(_jackknifed(apart[1:]), 1e-300)
        return float(np.where(beyond > 0, errors, 0.0).max(initial=0.0))


def _jackknifed(without: FloatArray) -> FloatArray:
    """The standard errors of numbers of which ``[groups, …]`` are estimates without one group."""
    count = len(without)
    apart = np.square(without - without.mean(axis=0)).sum(axis=0)
    return np.asarray(np.sqrt((count - 1) / count * apart))


@dataclass(frozen=True)
class Couplings:
    """What play tells of N entries (s, a), before any candidate is looked at.

    Args:
        observations: how many of the entries are of the observation, the first ones.
        seen: entries of which enough is seen to say what becomes of them, ``[N]``.
        has_sign: entries that may change their sign: not whether an action is taken, ``[N]``.
        odd: numbers of each entry that g moves as it moves the entries.
        leaning: numbers of each entry that change their sign with it.
        even: numbers of each entry that do not.
        pairs: numbers of pairs of entries, which change their sign with each of them.
        starts: numbers as ``odd`` and ``pairs`` of how episodes begin.
    """

    observations: int
    seen: BoolArray
    has_sign: BoolArray
    odd: list[Estimate]
    leaning: list[Estimate]
    even: list[Estimate]
    pairs: list[Estimate]
    starts: list[Estimate]

    @property
    def count(self) -> int:
        """N."""
        return len(self.seen)

    def contradict(self, matrix: FloatArray) -> bool:
        """Whether a candidate is out of the question.

        If episodes begin symmetrically, all that is visited must be symmetric, up to chance.
        Otherwise only what differs plainly speaks against it.

        Args:
            matrix: of g on z, ``[N, N]``.
        """
        g, even = Block(np.arange(self.count), matrix), self.begin_alike(matrix)
        return self._leads_astray(matrix) or any(
            e.excess(g, g, NEARLY if even else e.uneven) >= ERRORS for e in (*self.odd, *self.pairs)
        )

    def begin_alike(self, matrix: FloatArray) -> bool:
        """Whether episodes begin in moved states as often, as far as is seen."""
        g = Block(np.arange(self.count), matrix)
        return all(start.excess(g, g, NEARLY) < ERRORS for start in self.starts)

    def _leads_astray(self, matrix: FloatArray) -> bool:
        """Whether moved states lie where none was seen, in some direction."""
        covariance, _ = self.pairs
        used = np.flatnonzero(self.seen)
        inside = np.ix_(used, used)
        units = np.sqrt(np.diag(covariance.value)[used])
        here = covariance.value[inside] / np.outer(units, units) + 1e-6 * np.eye(len(used))
        g = matrix[inside] * units[None, :] / units[:, None]
        ratios = np.linalg.eigvals(np.linalg.solve(here, g @ here @ g.T)).real
        return bool(ratios.max(initial=0.0) > FAR**2)


def couplings_of(played: Play, actions: FloatArray, are_choices: bool) -> Couplings:
    """The couplings of a play.

    Args:
        played: with observations ``[rows, n]``.
        actions: continuous actions as numbers, discrete ones as zeros and ones, ``[rows, q]``.
        are_choices: the actions are discrete.
    """
    states = played.observations.astype(np.float64)
    n, outcomes = states.shape[1], without_extremes(outcomes_of(played))
    z = np.hstack([states, actions])
    of_stretch = played.episodes * 10**6 + played.times // STRETCH
    stretch = np.unique(of_stretch, return_inverse=True)[1].reshape(-1)
    seen = _varies_often(z, stretch)
    z = np.where(seen, z, 0.0)
    group = _groups(played.episodes, stretch)
    moved = np.hstack([np.abs(outcomes[:, :n]), np.zeros_like(actions)])
    signs = np.sign(z)
    columns = np.hstack([np.ones((len(z), 1)), z, outcomes, np.abs(z), moved, signs, signs != 0])
    everything, first = _moments(columns, group, n, z.shape[1]), played.times == 0
    starts = _moments(columns[first], group[first], n, z.shape[1])

    def estimate(
        name: str, scale: FloatArray, uneven: float = UNEVEN_VISITS, of: list[_Moments] = everything
    ) -> Estimate:
        value, *without = (getattr(moments, name) for moments in of)
        return Estimate(value, np.stack(without), scale, uneven)

    spread = z.std(axis=0)
    per_unit = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    change = outcomes.std(axis=0)
    changes = np.concatenate([change[:n], np.zeros(actions.shape[1])])
    both = np.outer(spread, spread)
    has_sign = np.arange(len(seen)) < (n if are_choices else len(seen))
    return Couplings(
        n,
        seen,
        has_sign,
        [
            estimate("mean", spread),
            estimate("reward", change[n] * per_unit, UNEVEN_EFFECTS),
            estimate("termination", change[n + 1] * per_unit, UNEVEN_EFFECTS),
        ],
        [estimate("lean", np.ones_like(spread), UNEVEN_LEAN)],
        [estimate("size", spread), estimate("size_of_change", changes)],
        [
            estimate("covariance", both),
            estimate("jacobian", np.outer(changes, per_unit), UNEVEN_EFFECTS),
        ],
        [estimate("mean", spread, of=starts), estimate("covariance", both, of=starts)],
    )


def outcomes_of(played: Play) -> FloatArray:
    """s' − s, the reward and the termination, ``[rows, n + 2]``."""
    changes = played.next_observations.astype(np.float64) - played.observations
    rest = [played.rewards[:, None], played.terminations[:, None].astype(np.float64)]
    return np.hstack([changes, *rest])


def without_extremes(outcomes: FloatArray) -> FloatArray:
    """Impacts, say, cut to what is usual, the same way up and down."""
    sizes = np.abs(outcomes)
    usual, rare = 3 * np.quantile(sizes, 0.8, axis=0), np.quantile(sizes, 0.995, axis=0)
    limit = np.where(usual > 0, usual, np.where(rare > 0, rare, sizes.max(axis=0)))
    return np.clip(outcomes, -limit, limit)


def _varies_often(z: FloatArray, stretch: IntArray) -> BoolArray:
    usual = np.median(z, axis=0)
    differs = np.abs(z - usual) > 1e-6 * np.maximum(1, np.abs(usual))
    counts = [len(np.unique(stretch[differs[:, j]])) for j in range(z.shape[1])]
    return np.array(counts) >= min(LEAST_STRETCHES, (int(stretch.max()) + 1) / 2)


def _groups(episodes: IntArray, stretch: IntArray) -> IntArray:
    """The group of each row, episodes being kept together."""
    number = np.unique(episodes, return_inverse=True)[1].reshape(-1)
    if number.max() + 1 < LEAST_EPISODES:
        number = stretch
    shuffled = np.random.default_rng(0).permutation(int(number.max()) + 1)
    return np.asarray(shuffled[number] % GROUPS, dtype=np.int64)


@dataclass(frozen=True)
class _Moments:
    """Of the rows of some groups."""

    mean: FloatArray
    covariance: FloatArray
    jacobian: FloatArray
    reward: FloatArray
    termination: FloatArray
    size: FloatArray
    size_of_change: FloatArray
    lean: FloatArray


def _moments(columns: FloatArray, group: IntArray, n: int, both: int) -> list[_Moments]:
    """Of all rows, and without each group in turn.

    Args:
        columns: 1, z, outcomes, |z|, |s' − s|, the signs of z and whether there is one.
        group: of each row.
        n: entries of the observation.
        both: entries of z.
    """
    parts = [columns[group == k] for k in np.unique(group)]
    sums = np.stack([part.T @ part for part in parts])
    total = sums.sum(axis=0)
    rest = [total - one for one in sums] if len(sums) > 1 else [total]
    found = []
    for products in (total, *rest):
        means = products[0] / products[0, 0]
        products = products / products[0, 0] - np.outer(means, means)
        z, outcomes = slice(1, 1 + both), slice(1 + both, 3 + both + n)
        covariance = products[z, z]
        own = np.diag(covariance)
        penalty = np.diag(np.where(own > 0, RIDGE * own, 1.0))
        effects = np.linalg.solve(covariance + penalty, products[z, outcomes]).T
        jacobian = np.zeros((both, both))
        jacobian[:n] = effects[:n]
        sizes, moves, signs, signed = means[3 + both + n :].reshape(4, both)
        lean = signs / np.maximum(signed, 1e-12)
        odd = means[z], covariance, jacobian, effects[n], effects[n + 1]
        found.append(_Moments(*odd, sizes, moves, lean))
    return found
