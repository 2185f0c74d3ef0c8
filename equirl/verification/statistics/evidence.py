"""Evidence that outcomes depend on whether a transition is original or moved, given (s, a).

Every transition is there K times: as it happened and moved by g, g², …. What follows, less what
follows from such an (s, a) on average over all copies, is its *surprise*. If the symmetry holds,
surprises of originals and of moved copies are distributed alike at each (s, a), so

    T = Σ_t w(s, a) · c · φ(s, a, surprise),     c = 1 for originals, −1/(K−1) for moved copies,

is zero up to chance, for every function φ that was not fitted to the same episodes. Three
families of φ are tried: products of simple functions of (s, a) and of the surprise (*averages*),
the log odds that boosted trees give (*trees*), and the log ratio of counts where the same (s, a)
recur (*counts*). w is the overlap weight (Li et al. 2018, arXiv 1404.1785): where only originals
are visited nothing can be said. T is a sum over units, which are whole episodes; if the symmetry
holds, each of them may as well be moved, and then T is as likely with the roles of its copies
shifted. That gives the distribution of T by permutation.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy import sparse

from equirl.verification.statistics.encoding import (
    QUANTITIES,
    BoolArray,
    Copies,
    FloatArray,
    IntArray,
)
from equirl.verification.statistics.learners import (
    Inputs,
    conditional_means,
    log_odds,
    propensities,
)
from equirl.verification.statistics.scores import Scores

FLOOR = 0.01
"""Noise of this fraction of the spread is added: smaller differences may be the regression's."""

ALLOWANCE = 0.2
"""Of T, for regressions that miss where states are visited on one side: times the imbalance."""

LEAST_WEIGHT = 0.1
"""Where the other kind is visited less than this says, nothing is said."""

IMBALANCED = 0.1
"""From this imbalance on trees are not asked: two of them differ in what they know of visits."""

MOST_SCORES = 6000
"""Averages per quantity: functions of (s, a) times functions of the surprise."""

TREE_INPUTS = 40
"""Surprises that trees look at, those that vary most."""

LEAST_RECURRING = 0.05
"""Counts are compared where this share of the transitions begins in an (s, a) that recurs."""

RECURRING = 4
"""Transitions from the same (s, a), original or moved."""

EVERYTHING = slice(None)


def _price(log_odds: FloatArray) -> FloatArray:
    """The even part of −2 log σ(φ): what being sure costs."""
    size = np.abs(log_odds)
    return np.asarray(size + 2 * np.log1p(np.exp(-size)))


class Groundwork:
    """What all evidence on one generator is built on.

    Args:
        copies: the transitions.
        units: of each transition, ``[N]``.
        generator: of folds and noise.
    """

    def __init__(self, copies: Copies, units: IntArray, generator: np.random.Generator) -> None:
        self.copies, self.units = copies, units
        k, n = copies.keys.shape
        self.unit_count = int(units.max()) + 1
        half = generator.permutation(self.unit_count) % 2
        self.fold = np.tile(half[units], k)
        self.x = copies.states.reshape(k * n, -1)
        self.actions = copies.actions.reshape(k * n, -1)
        self.codes = copies.action_codes.reshape(k * n)
        self.is_original = np.repeat(np.arange(k) == 0, n)
        self.balanced = np.repeat(np.abs(copies.signs), n)
        _, places = np.unique(copies.keys.reshape(-1), return_inverse=True)
        self.inputs = Inputs(self.x, self.actions, self.codes, places.reshape(-1), self.fold)
        self._visits_unweighted = log_odds(
            self.inputs.both, self.is_original, self.balanced, self.fold
        )
        odds = propensities(
            self.inputs.both, self.is_original, self.balanced, self.fold, self._visits_unweighted
        )
        weights = 2 * np.where(self.is_original, 1 - odds, odds)
        self.weights = np.where(weights < LEAST_WEIGHT, 0, weights)
        self.imbalance = float(np.average(np.abs(2 * odds - 1), weights=self.balanced))
        self.overlap = float(self.weights[:n].mean())
        self.noise, self.means = {}, {}
        for quantity in QUANTITIES:
            y = copies.outcomes[quantity].reshape(k * n, -1)
            noise = FLOOR * y.std(axis=0) * generator.normal(size=y.shape)
            self.noise[quantity] = noise
            self.means[quantity] = conditional_means(self.inputs, y)

    @cached_property
    def visits_alone(self) -> FloatArray:
        """The log odds of an original given (s, a) under the weights: what the trees must beat."""
        if (self.weights == 1).all():
            return self._visits_unweighted
        return log_odds(self.inputs.both, self.is_original, self.balanced * self.weights, self.fold)

    def surprises(self, copies: Copies, quantity: str) -> FloatArray:
        """``[K·N, m]``."""
        y = copies.outcomes[quantity]
        surprises: FloatArray = (
            y.reshape(-1, y.shape[2]) + self.noise[quantity] - self.means[quantity]
        )
        return surprises

    def is_constant(self, copies: Copies, quantity: str) -> bool:
        """Whether nothing of this quantity ever varies, over all copies."""
        y = copies.outcomes[quantity]
        return y.shape[2] == 0 or bool((np.ptp(y, axis=(0, 1)) < 1e-12).all())

    def averages(
        self, copies: Copies, quantity: str, columns: BoolArray | slice = EVERYTHING
    ) -> Scores:
        """Simple functions of (s, a), times the surprise and its size, entry by entry."""
        inner = self._functions_of_surprise(self.surprises(copies, quantity)[:, columns])
        outer = self._functions_of_state * self.weights[:, None]
        k, n = copies.keys.shape
        gather = sparse.csr_matrix((np.ones(n), (self.units, np.arange(n))), (self.unit_count, n))
        raw = np.empty((k, self.unit_count, outer.shape[1] * inner.shape[1]))
        for copy in range(k):
            rows = slice(copy * n, copy * n + n)
            products = [
                gather @ (outer[rows] * inner[rows, j, None]) for j in range(inner.shape[1])
            ]
            raw[copy] = np.hstack(products)
        limit = np.outer(inner.std(axis=0), (np.abs(outer) * self.balanced[:, None]).sum(axis=0))
        allowance = ALLOWANCE * self.imbalance * limit.reshape(-1) / 2
        return Scores("averages", self._by_role(raw), allowance, is_one_sided=False)

    def trees(self, copies: Copies, quantity: str) -> Scores | None:
        """By how much knowing what followed helps trees to tell originals from moved copies.

        None where visits are one-sided.
        """
        if self.imbalance > IMBALANCED:
            return None
        joint = self._log_odds_with(copies, quantity)
        scores = self._of_log_ratio(
            "trees", np.clip(joint - self.visits_alone, -3, 3), self.weights
        )
        # Log loss = an odd part, which is T, and a price for being sure, which is the same in
        # all roles. Where visits are one-sided, T alone would reward being sure.
        price = _price(joint) - _price(self.visits_alone)
        by_fold = np.bincount(self.fold, self.weights * self.balanced * price, 2)
        paid = np.maximum(by_fold, 0.0) * self.imbalance / IMBALANCED
        return replace(scores, allowance=scores.allowance + paid)

    def _log_odds_with(self, copies: Copies, quantity: str) -> FloatArray:
        """The log odds of an original given (s, a) and what followed, ``[K·N]``."""
        surprise = self.surprises(copies, quantity)
        chosen = np.sort(np.argsort(-surprise.std(axis=0), kind="stable")[:TREE_INPUTS])
        inputs = np.hstack([self.inputs.both, surprise[:, chosen]])
        return log_odds(inputs, self.is_original, self.balanced * self.weights, self.fold)

    def counts(self, copies: Copies, quantity: str) -> Scores | None:
        """How often each outcome followed; None where (s, a) do not recur."""
        ratio = self._log_ratio_of_counts(copies, quantity)
        return None if ratio is None else self._of_log_ratio("counts", *ratio)

    def breach(self, copies: Copies, quantity: str, scores: Scores) -> FloatArray:
        """What each row says against the symmetry by the evidence that found it, ``[K·N]``."""
        if scores.family == "trees":
            told = self._log_odds_with(copies, quantity) - self.visits_alone
        elif scores.family == "counts":
            told, _ = self._log_ratio_of_counts(copies, quantity) or (np.zeros(len(self.x)), None)
        else:
            inner = self._functions_of_surprise(self.surprises(copies, quantity))
            told = inner[:, int(np.argmax(scores.observed)) // self._functions_of_state.shape[1]]
        return np.where(self.is_original, 1, -1) * np.clip(told, -3, 3)

    def _log_ratio_of_counts(
        self, copies: Copies, quantity: str
    ) -> tuple[FloatArray, FloatArray] | None:
        """The log ratio of how often each outcome followed, and weights, ``[K·N]``."""
        keys, place, visits = np.unique(self._keys, return_inverse=True, return_counts=True)
        symbols = copies.symbols[quantity].reshape(-1)
        _, pair = np.unique(place * np.int64(1_000_003) + symbols, return_inverse=True)
        place, pair = place.reshape(-1), pair.reshape(-1)
        first = np.zeros(pair.max() + 1, dtype=np.int64)
        first[pair] = place
        if (visits[place] >= RECURRING).mean() < LEAST_RECURRING:
            return None
        ratio, weights = np.zeros(len(place)), np.zeros(len(place))
        for held_out in (0, 1):
            fit, test = self.fold != held_out, self.fold == held_out
            at, of = self._counted(place, fit, len(keys)), self._counted(pair, fit, len(first))
            share = of.sum(axis=1) / np.maximum(at.sum(axis=1)[first], 1e-9)
            guess = (of + 0.5 * share[:, None] + 1e-9) / (at[first] + 0.5 + 1e-9)
            log_ratio = np.log(guess[:, 0]) - np.log(guess[:, 1])
            log_ratio = np.where(of.sum(axis=1) > 0, np.clip(log_ratio, -3, 3), 0)
            mean = np.bincount(first, share * log_ratio, len(keys))
            ratio[test] = (log_ratio - mean[first])[pair[test]]
            both = np.maximum(at.sum(axis=1), 1e-9)
            # The same for both kinds, or roles were not exchangeable: an outcome that originals
            # had is found where originals have been more often.
            weights[test] = (4 * at[:, 0] * at[:, 1] / np.square(both))[place[test]]
        return ratio, weights

    @cached_property
    def _keys(self) -> IntArray:
        """Of (s, a); with the time within the episode as well where visits are one-sided."""
        keys = self.copies.keys.reshape(-1)
        if self.imbalance < IMBALANCED:
            return keys
        late = np.digitize(self.x[:, -1], np.quantile(self.x[:, -1], (0.25, 0.5, 0.75)))
        return np.asarray(keys * 5 + late, dtype=np.int64)

    def _counted(self, numbers: IntArray, mask: BoolArray, count: int) -> FloatArray:
        """``[count, 2]``: originals and moved copies among the rows of a mask."""
        columns = [
            np.bincount(numbers[mask & kind], self.balanced[mask & kind], count)
            for kind in (self.is_original, ~self.is_original)
        ]
        return np.stack(columns, axis=1)

    def _of_log_ratio(self, family: str, ratio: FloatArray, weights: FloatArray) -> Scores:
        """One T per fold, since the log ratios of the two folds are not independent."""
        k, n = self.copies.keys.shape
        raw = np.zeros((k, self.unit_count, 2))
        for copy in range(k):
            rows = slice(copy * n, copy * n + n)
            np.add.at(raw[copy], (self.units, self.fold[rows]), (weights * ratio)[rows])
        by_fold = np.bincount(self.fold, weights * np.abs(ratio) * self.balanced, 2)
        allowance = np.asarray(by_fold * ALLOWANCE * self.imbalance / 2, dtype=np.float64)
        return Scores(family, self._by_role(raw), allowance, is_one_sided=True)

    def _by_role(self, raw: FloatArray) -> FloatArray:
        """Σ_k c(k − shift) · raw_k for every shift: ``[K, units, J]``."""
        signs = self.copies.signs
        k = len(signs)
        return np.stack(
            [sum(signs[(c - shift) % k] * raw[c] for c in range(k)) for shift in range(k)]
        )

    @cached_property
    def _functions_of_state(self) -> FloatArray:
        """``[K·N, q]``: 1, entries, and whether an entry is among its outer values; per action."""
        n_actions = max(1, int(self.codes.max()) + 1)
        room = max(4, 200 // n_actions)
        spread = self.x.std(axis=0)
        order = np.argsort(-spread, kind="stable")[: max(1, room // 4)]
        columns = [np.ones(len(self.x))]
        inputs = [self.x[:, j] for j in order]
        if n_actions == 1:
            inputs += list(self.actions.T)
        for values in inputs:
            columns.append(values)
            if len(np.unique(values[:2000])) > 2:
                low, below, above, high = np.quantile(values, (0.06, 0.25, 0.75, 0.94)) + 1e-4
                columns += [values < low, values < below, values > above, values > high]
        simple = np.stack(columns, axis=1).astype(np.float64)
        if n_actions == 1:
            return simple
        per_action = [simple * (self.codes == code)[:, None] for code in range(n_actions)]
        return np.hstack([simple[:, :1], *per_action])

    def _functions_of_surprise(self, surprise: FloatArray) -> FloatArray:
        """``[K·N, J]``: the surprise, clipped at its usual size as well, and its size."""
        deviation = np.maximum(surprise.std(axis=0), 1e-12)
        plain = np.clip(surprise / deviation, -8, 8)
        usual = np.median(np.abs(surprise), axis=0)
        is_heavy = usual < 0.35 * deviation
        robust = np.clip(surprise / np.maximum(usual, 1e-12), -4, 4)[:, is_heavy]
        sizes = np.hstack([np.minimum(np.abs(plain), 3), np.abs(robust)])
        curved = np.hstack([robust, sizes])
        # What is curved in the surprise has a mean of its own.
        curved = curved - conditional_means(self.inputs, curved, with_trees=False)
        both = np.hstack([plain, curved])
        both = both[:, both.std(axis=0) > 1e-9]
        if both.shape[1] == 0:
            return np.zeros((len(both), 1))
        room = max(1, MOST_SCORES // self._functions_of_state.shape[1])
        if both.shape[1] > room:
            both = both[:, np.sort(np.argsort(-both.std(axis=0), kind="stable")[:room])]
        return both
