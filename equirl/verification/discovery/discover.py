"""Finding the symmetries of a low-dimensional environment from nothing but random play.

One half of the episodes proposes candidates, each step cheaper than the next: what the couplings
allow (`couplings`, `signed_search`, `turns`), what regressions of the dynamics do not contradict
(`fitted_dynamics`). The other half is for the statistical test of
`equirl.verification.statistical`, which all that is reported has passed. What it refuses can be
tested once more, on fresh play.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.declaring import Mirror
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry
from equirl.verification.discovery.couplings import (
    Couplings,
    couplings_of,
    outcomes_of,
    without_extremes,
)
from equirl.verification.discovery.findings import (
    Discovery,
    Unconfirmed,
    is_refused,
    plainest,
)
from equirl.verification.discovery.fitted_dynamics import FittedDynamics
from equirl.verification.discovery.signed_search import signed_permutations
from equirl.verification.discovery.turns import turns_by_thirds
from equirl.verification.play import Play
from equirl.verification.statistical import check_statistically
from equirl.verification.statistics.learners import FloatArray
from equirl.verification.statistics.permutation import LEAST_LEVEL
from equirl.verification.verdicts import Verdict

MOST_CANDIDATES = 5000
"""That the couplings allow; with more, too little is coupled to tell them apart."""

MOST_TESTS = 16
"""Candidates that are tested, those first that the fitted dynamics like best."""

LARGEST_GROUP = 64

LATE = 30
"""Steps after which a start is forgotten: what is visited on one side only tests badly."""


def discover_symmetries(
    played: Play,
    action_space: spaces.Space[Any],
    level: float = 0.05,
    seed: int = 0,
    *,
    measure_sensitivity: bool = True,
    play_again: Callable[[], Play] | None = None,
) -> Discovery:
    """The signed permutations, and turns by thirds of pairs of entries, that a task has.

    Args:
        played: random play; 20,000 transitions and more serve well, of many episodes rather than
            of long ones.
        action_space: ``Discrete``, or a ``Box`` of one axis.
        level: probability that the test refuses any of the true ones among the candidates.
        seed: of the halves, and of the test.
        measure_sensitivity: plant violations, to say how small ones would have been seen.
        play_again: plays anew, other episodes. What the test refuses is then tested once more, at
            the same level, and missed only if refused both times: one of a few candidates is then
            missed with a probability of at most ``level`` squared.

    Raises:
        SymmetryError: observations are not vectors of finite numbers, actions are of another kind,
            or too many candidates are left.
    """
    if played.observations.ndim != 2:
        raise SymmetryError("discovery takes observations that are vectors")
    _check_finite(played)
    choices = _choices(action_space)
    half = np.random.default_rng(seed).permutation(int(played.episodes.max()) + 1) % 2
    proposing, testing = (played.rows(half[played.episodes] == h) for h in (0, 1))
    if not (len(proposing) and len(testing)):
        raise SymmetryError("discovery takes two episodes at least")
    start = int(action_space.start) if isinstance(action_space, spaces.Discrete) else 0
    actions = _as_numbers(proposing.actions, choices, start)
    couplings = couplings_of(proposing, actions, choices > 0)
    z = np.hstack([proposing.observations.astype(np.float64), actions])
    n = couplings.observations
    candidates = _screened(couplings, proposing, z, choices)
    tested = max(1, min(len(candidates), MOST_TESTS))
    if level / tested < LEAST_LEVEL:
        raise SymmetryError(
            f"{tested} candidates cannot be tested at a level of {level:g}, but at one of "
            f"{tested * LEAST_LEVEL:g} and more"
        )
    level = level / tested
    tests = _Tests(testing, level, seed, play_again)
    group, verdicts = [np.eye(len(couplings.seen))], list[Verdict]()
    generators: dict[str, tuple[Any, Any]] = {}
    unconfirmed: list[Unconfirmed] = []
    second_tests: dict[str, float] = {}
    for matrix in candidates:
        if len(unconfirmed) + len(generators) >= MOST_TESTS or _is_among(matrix, group):
            continue
        larger, declared = _closed([*group, matrix]), _declared(matrix, n, choices, start)
        try:
            symmetry = _symmetry(n, action_space, {"candidate": declared})
        except SymmetryError:  # such as signs that do not map the box to itself
            continue
        is_late = not couplings.begin_alike(matrix)
        found = tests.of(symmetry, is_late) if larger is not None else ()
        if larger is None or not _passes(found[-1]):
            unconfirmed.append(Unconfirmed(declared, symmetry, found))
            continue
        name = "mirror" if len(candidates) == 1 else f"g{len(generators) + 1}"
        group, generators[name] = larger, declared
        if len(found) > 1:
            second_tests[name] = plainest(found[0]).size
        passed = found[-1]
        if measure_sensitivity:
            passed = tests.once(symmetry, is_late, len(found) - 1, measure_sensitivity=True)
        verdicts += [replace(verdict, generator=name) for verdict in passed]
    left = sum(not _is_among(matrix, group) for matrix in candidates) - len(unconfirmed)
    return Discovery(
        _symmetry(n, action_space, generators),
        generators,
        tuple(verdicts),
        tuple(unconfirmed),
        second_tests,
        tuple(int(i) for i in np.flatnonzero(~couplings.seen[:n])),
        max(0, left) if len(unconfirmed) + len(generators) >= MOST_TESTS else 0,
    )


class _Tests:
    """The test, on the half of the play that it was kept for, and on fresh play.

    Args:
        rows: that half.
        level: of each test.
        seed: likewise.
        play_again: as of `discover_symmetries`.
    """

    def __init__(
        self, rows: Play, level: float, seed: int, play_again: Callable[[], Play] | None
    ) -> None:
        self.plays, self.level, self.seed, self.play_again = [rows], level, seed, play_again

    def of(self, symmetry: Symmetry, is_late: bool) -> tuple[tuple[Verdict, ...], ...]:
        """The verdicts of one test on a candidate; of two where the first refused it."""
        first = self.once(symmetry, is_late, 0)
        if self.play_again is None or not is_refused(first):
            return (first,)
        if len(self.plays) == 1:
            self.plays.append(self.play_again())
        return first, self.once(symmetry, is_late, 1)

    def once(
        self, symmetry: Symmetry, is_late: bool, which: int, *, measure_sensitivity: bool = False
    ) -> tuple[Verdict, ...]:
        """The verdicts of the first or the second test."""
        rows = _late(self.plays[which]) if is_late else self.plays[which]
        return tuple(
            check_statistically(
                symmetry,
                "candidate",
                rows,
                self.level,
                seed=self.seed,
                measure_sensitivity=measure_sensitivity,
            )
        )


def _passes(verdicts: tuple[Verdict, ...]) -> bool:
    """Nothing speaks against it, and the dynamics could be looked at."""
    looked_at = all(v.holds for v in verdicts if v.quantity == "dynamics")
    return looked_at and not is_refused(verdicts)


def _late(played: Play) -> Play:
    """What comes later in episodes, half of a usual one at least."""
    usual = np.median(np.unique(played.episodes, return_counts=True)[1])
    return played.rows(played.times >= min(LATE, int(usual) // 2))


def _check_finite(played: Play) -> None:
    """What is NaN or infinite would look as if it never varied."""
    is_finite = np.isfinite(played.observations) & np.isfinite(played.next_observations)
    failed = np.flatnonzero(~is_finite.all(axis=0))
    if failed.size:
        entry, rows = failed[0], int((~is_finite[:, failed[0]]).sum())
        raise SymmetryError(
            f"s[{entry}] is NaN or infinite in {rows} of {len(played)} transitions: mend the "
            "environment, or leave that entry out of its observations"
        )


def _choices(space: spaces.Space[Any]) -> int:
    """How many discrete actions there are, 0 for continuous ones."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return 0
    raise SymmetryError(f"discovery takes actions of a Discrete or a Box of one axis, got {space}")


def _as_numbers(actions: Any, choices: int, start: int) -> FloatArray:
    if not choices:
        return np.asarray(actions, dtype=np.float64)
    return np.eye(choices)[np.asarray(actions, dtype=np.int64) - start]


def _screened(couplings: Couplings, played: Play, z: FloatArray, choices: int) -> list[FloatArray]:
    """The candidates that go to the test, the likeliest first."""
    allowed = list(islice(_allowed(couplings), MOST_CANDIDATES + 1))
    if len(allowed) > MOST_CANDIDATES:
        raise SymmetryError(
            f"more than {MOST_CANDIDATES} candidates are left: the entries hardly act on one "
            "another in random play"
        )
    if not allowed:
        return []
    fold = np.unique(played.episodes, return_inverse=True)[1].reshape(-1) % 2
    dynamics = FittedDynamics.to(z, without_extremes(outcomes_of(played)), fold, choices)
    sized = [(dynamics.contradiction(matrix), k) for k, matrix in enumerate(allowed)]
    return [allowed[k] for size, k in sorted(sized) if size <= 1]


def _allowed(couplings: Couplings) -> Iterator[FloatArray]:
    eye = np.eye(couplings.count)
    signed = (signs[:, None] * eye[order] for order, signs in signed_permutations(couplings))
    for matrix in chain(signed, turns_by_thirds(couplings)):
        if not couplings.contradict(matrix):
            yield matrix


def _is_among(matrix: FloatArray, group: list[FloatArray]) -> bool:
    return any(np.allclose(matrix, element, atol=1e-9) for element in group)


def _closed(elements: list[FloatArray]) -> list[FloatArray] | None:
    """All products; None where they are more than `LARGEST_GROUP`."""
    group = list(elements)
    for element in group:
        for other in elements:
            product = element @ other
            if not _is_among(product, group):
                group.append(product)
            if len(group) > LARGEST_GROUP:
                return None
    return group


def _declared(matrix: FloatArray, n: int, choices: int, start: int) -> tuple[Any, Any]:
    """As `Symmetry.from_generators` takes them, ready to be printed."""
    on_states, on_actions = matrix[:n, :n], matrix[n:, n:]
    if choices:  # entry p[a] of the image says whether a was taken
        return _map(on_states), [start + int(row) for row in on_actions.argmax(axis=0)]
    return _map(on_states), _map(on_actions)


def _map(matrix: FloatArray) -> Any:
    whole = np.rint(matrix)
    if not np.array_equal(whole, matrix):
        return matrix
    index = np.abs(whole).argmax(axis=1)
    signs = whole.sum(axis=1).astype(np.int64)
    return Mirror(tuple(str(i) for i in range(len(index))), index, signs)


def _symmetry(
    n: int, action_space: spaces.Space[Any], generators: Mapping[str, tuple[Any, Any]]
) -> Symmetry:
    unbounded = spaces.Box(-np.inf, np.inf, (n,), np.float64)
    return Symmetry.from_generators(unbounded, action_space, generators)
