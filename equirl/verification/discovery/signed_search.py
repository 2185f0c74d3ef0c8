"""The search for signed permutations that the couplings allow, by backtracking.

Every entry i has a domain of values (j, ±): in its place comes entry j, with that sign. Two values
are compatible if the numbers of the pair agree. Values without support among the values of another
entry are struck off (arc consistency, Mackworth 1977) before and after every choice, so that most
choices are refused at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from equirl.verification.discovery.couplings import ERRORS, BoolArray, Couplings, Estimate
from equirl.verification.statistics.learners import FloatArray, IntArray

SIGNS = np.array([1.0, -1.0])


def signed_permutations(found: Couplings) -> Iterator[tuple[IntArray, FloatArray]]:
    """All (order, signs), with (gz)[i] = signs[i] · z[order[i]], but for the identity."""
    domains, compatible = _domains(found), _compatible(found)
    for choice in _assignments(_supported(domains, compatible), compatible):
        order, signs = choice // 2, SIGNS[choice % 2]
        if (order != np.arange(len(order))).any() or (signs < 0).any():
            yield order, signs


def _domains(found: Couplings) -> BoolArray:
    """``[N, 2 N]``: value 2 j + 1 is entry j with the sign changed."""
    n = found.count
    alike = found.seen[:, None] & found.seen[None, :]
    kinds = np.arange(n) < found.observations
    alike &= kinds[:, None] == kinds[None, :]
    for estimate in found.even:
        alike &= _agree(estimate, 1.0)
    both = np.stack([alike, alike & found.has_sign[:, None]], axis=2)
    for estimate in (*found.odd, *found.leaning):
        both &= np.stack([_agree(estimate, sign) for sign in SIGNS], axis=2)
    for i in np.flatnonzero(~found.seen):
        both[i, i, 0] = True
    return both.reshape(n, 2 * n)


def _agree(estimate: Estimate, sign: float) -> BoolArray:
    """``[i, j]``: whether the number of entry i is, up to chance, ``sign`` times that of j."""
    value, error, slack = estimate.value, estimate.error, estimate.uneven * estimate.scale
    apart = np.abs(value[:, None] - sign * value[None, :])
    chance = np.sqrt(np.square(error)[:, None] + np.square(error)[None, :])
    return np.asarray(apart <= ERRORS * chance + np.sqrt(np.outer(slack, slack)) + 1e-12)


def _compatible(found: Couplings) -> BoolArray:
    """``[N, 2 N, N, 2 N]``: of entry i and its value, and entry k and its value."""
    n = found.count
    fits = np.ones((n, n, 2, n, n, 2), dtype=bool)
    for estimate in found.pairs:
        value, slack = estimate.value, estimate.uneven * estimate.scale
        variance = np.square(estimate.error)
        for i in range(n):  # one row at a time, for the memory
            chance = np.sqrt(variance[i][None, :, None] + variance[:, None, :])  # [j, k, l]
            allowed = ERRORS * chance + np.sqrt(slack[i][None, :, None] * slack[:, None, :]) + 1e-12
            for flip, sign in enumerate(SIGNS):
                apart = np.abs(value[i][None, :, None] - sign * value[:, None, :])
                fit = apart <= allowed  # [j, k, l]
                fits[i, :, 0, :, :, flip] &= fit
                fits[i, :, 1, :, :, 1 - flip] &= fit
    fits[:, np.arange(n), :, :, np.arange(n), :] = False  # no entry comes in two places
    own = np.arange(n)
    fits[own, :, :, own] = np.eye(2 * n, dtype=bool).reshape(n, 2, n, 2) & fits_itself(found)
    both = fits.reshape(n, 2 * n, n, 2 * n)
    return np.asarray(both & both.transpose(2, 3, 0, 1))


def fits_itself(found: Couplings) -> BoolArray:
    """``[N, N, 2, 1, 1]``: whether the number of the pair (i, i) is that of (j, j)."""
    n = found.count
    fits = np.ones((n, n), dtype=bool)
    for estimate in found.pairs:
        own = Estimate(
            np.diag(estimate.value),
            np.diagonal(estimate.without, axis1=1, axis2=2),
            np.diag(estimate.scale),
            estimate.uneven,
        )
        fits &= _agree(own, 1.0)
    return np.asarray(fits[:, :, None, None, None])


def _supported(domains: BoolArray, compatible: BoolArray) -> BoolArray:
    """The values that have support among those of every other entry."""
    while True:
        support = np.einsum("ivkw,kw->ivk", compatible, domains) > 0
        kept: BoolArray = domains & support.all(axis=2)
        if np.array_equal(kept, domains):
            return kept
        domains = kept


def _assignments(domains: BoolArray, compatible: BoolArray) -> Iterator[IntArray]:
    sizes = domains.sum(axis=1)
    if (sizes == 0).any():
        return
    if (sizes == 1).all():
        yield domains.argmax(axis=1)
        return
    i = int(np.where(sizes > 1, sizes, domains.shape[1] + 1).argmin())
    for value in np.flatnonzero(domains[i]):
        chosen = domains & compatible[i, value]
        chosen[i] = False
        chosen[i, value] = True
        yield from _assignments(_supported(chosen, compatible), compatible)
