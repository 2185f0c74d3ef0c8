"""Two environments with the same past, one of them put into the moved state, then both step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry
from equirl.verification.moved_states.fresh_draws import MOST_STATES, Place, check_by_fresh_draws, is_random
from equirl.verification.play import kept, stacked
from equirl.verification.moved_states.remembering import Memories, moved_action
from equirl.verification.statistics.sensitivity import INTERRUPTED
from equirl.verification.verdicts import QUANTITIES, CounterExample, Verdict
from equirl.verification.where import Region, region

StateMap = Callable[[Any], None]

Past = tuple[int, list[Any]]
"""The seed of an episode and the actions so far."""

LONGEST_PAST = 60

LEAST_COMPARED = 20
"""Steps, or what did not differ is undecided."""

LEAST_SHARE, LEAST_SIZE = 1e-2, 1e-3
"""Of the size of an entry; see `Differences`. With a tolerance of 1e-4, rounding of 1e-6 of the
largest entry counts as none."""

STEPS = 3
"""Compared after a state was moved: a few steps on, hidden state shows too."""


class Comparison:
    """The exact check of one generator.

    Args:
        make_env: makes an environment.
        symmetry: what is claimed.
        name: of the generator.
        state_map: puts an unwrapped environment from s into gs.
        tolerance: relative difference that counts as none.
        on_step: called after each environment step.
        memories: what wrappers keep of what went before, which is moved with the state.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        symmetry: Symmetry,
        name: str,
        state_map: StateMap,
        tolerance: float,
        on_step: Callable[[], object],
        memories: Memories,
    ) -> None:
        self.memories = memories
        self.make_env, self.symmetry, self.name = make_env, symmetry, name
        self.g = symmetry.group.index(name)
        self.state_map, self.tolerance, self.on_step = state_map, tolerance, on_step
        self.differences = Differences()
        self.worst = dict.fromkeys(QUANTITIES, 0.0)
        self.examples: dict[str, CounterExample] = {}
        self.steps = self.looked_at = 0
        self.cut_short = ""
        """Why there were fewer steps than asked for."""
        self.disputed: list[tuple[Past, Any]] = []
        self.compared: list[tuple[Any, Any, frozenset[str]]] = []
        """s, a, and the quantities that differed."""

    def verdicts(
        self, count: int, level: float, seed: int, deadline: float
    ) -> tuple[list[Verdict], list[str]]:
        """The verdicts after about ``count`` steps, and remarks.

        Args:
            count: number of environment steps.
            level: of the test by fresh draws, where the environment turns out to be random.
            seed: of the play.
            deadline: of `time.monotonic`.
        """
        generator = np.random.default_rng(seed)
        self.symmetry.action_space.seed(int(generator.integers(2**31)))
        is_drawn = False
        try:
            while self.steps < count:
                if time.monotonic() > deadline:
                    self.cut_short = "there was no time for more"
                    break
                self._compare_once(generator)
                if len(self.disputed) == 1 and not is_drawn:
                    is_drawn = self._is_random_there()
                if is_drawn and len(self.disputed) >= MOST_STATES:
                    break
        except KeyboardInterrupt:
            self.cut_short = INTERRUPTED
        if is_drawn:
            return self._by_fresh_draws(level, seed), [
                f"{self.name}: outcomes are drawn at random and differed for the same draws, so "
                "states and their images were played many times with fresh ones"
            ]
        remarks = []
        if self.disputed and self.looked_at > 0:
            remarks = [
                f"{self.name}: the same seed leads to the same outcome at these states; if the "
                "environment draws from a generator other than its np_random, that may be the cause"
            ]
        return [self._verdict(quantity) for quantity in QUANTITIES], remarks

    def _verdict(self, quantity: str) -> Verdict:
        outcome: Any = "refused" if quantity in self.examples else "holds"
        place = self._where(quantity) if outcome == "refused" else Region("", None)
        detail = place.words
        if outcome == "holds" and self.looked_at < LEAST_COMPARED:
            what = f"{self.looked_at} steps were compared, {LEAST_COMPARED} are the least"
            outcome, detail = "undecided", f"{what}: {self.cut_short or 'raise transitions'}"
        return Verdict(
            self.name,
            quantity,
            "exact",
            outcome,
            self.worst[quantity],
            self.looked_at,
            self.examples.get(quantity),
            detail,
            place.board,
        )

    def _where(self, quantity: str) -> Region:
        """The part of the states in which a quantity differed."""
        states, actions, differed = zip(*self.compared, strict=True)
        n = len(states)
        return region(
            self.symmetry,
            stacked(self.symmetry.observation_space, states),
            np.array(actions),
            np.array([float(quantity in one) for one in differed]),
            np.ones(n),
            np.random.default_rng(0).permutation(n) % 2 == 0,
        )

    def _compare_once(self, generator: np.random.Generator) -> None:
        """One episode up to some state, which is moved; then a few steps on both sides."""
        seed, length = int(generator.integers(2**31)), int(generator.integers(LONGEST_PAST))
        past = [self.symmetry.action_space.sample() for _ in range(length)]
        both = self._at((seed, past))
        if both is None:
            return
        env, twin, observation = both
        for _ in range(STEPS):
            action = self.symmetry.action_space.sample()
            in_image = moved_action(self.symmetry, self.g, action)
            following, reward, terminated, truncated, _ = env.step(action)
            try:
                found, found_reward, found_terminated, _, _ = twin.step(in_image)
            except Exception as error:
                raise SymmetryError(
                    f"the environment cannot step from the state that the state map of {self.name} "
                    f"put it into: {error!r}"
                ) from error
            self._count(1)
            self.looked_at += 1
            expected = self.symmetry.transform_observation(self.g, following)
            pairs = {
                "dynamics": (expected, found),
                "reward": (float(reward), float(found_reward)),
                "termination": (bool(terminated), bool(found_terminated)),
            }
            apart: set[str] = set()
            for quantity, (wanted, got) in pairs.items():
                difference = self.differences(quantity, wanted, got)
                if difference > self.tolerance:
                    apart.add(quantity)
                if difference > max(self.worst[quantity], self.tolerance):
                    self.examples[quantity] = CounterExample(
                        observation,
                        action,
                        following,
                        self.symmetry.transform_observation(self.g, observation),
                        in_image,
                        wanted,
                        got,
                    )
                self.worst[quantity] = max(self.worst[quantity], difference)
            self.compared.append((kept(observation), action, frozenset(apart)))
            if apart:
                self.disputed.append(((seed, past), action))
            past, observation = [*past, action], following
            if apart or terminated or truncated:  # what follows a breach says nothing more
                break

    def _at(self, past: Past) -> tuple[gym.Env[Any, Any], gym.Env[Any, Any], Any] | None:
        """An environment with this past, another moved by g, and s; None if the episode is over."""
        seed, actions = past
        # New ones for every episode: a state map may leave the random generator in a mirror, and
        # not every environment forgets all of the episode before.
        env, twin = self.make_env(), self.make_env()
        observation, _ = env.reset(seed=seed)
        twin.reset(seed=seed)
        for action in actions:
            observation, _, terminated, truncated, _ = env.step(action)
            twin.step(action)
            self._count(1)
            if terminated or truncated:
                return None
        try:
            self.state_map(twin.unwrapped)
        except Exception as error:
            raise SymmetryError(f"the state map of {self.name} failed: {error!r}") from error
        self.memories.move(twin, self.g)
        return env, twin, observation

    def _place(self, past: Past, action: Any) -> Place | None:
        both = self._at(past)
        if both is None:
            return None
        env, twin, observation = both
        return Place(env, twin, observation, action, moved_action(self.symmetry, self.g, action))

    def _is_random_there(self) -> bool:
        past, action = self.disputed[0]
        place = self._place(past, action)
        return place is not None and is_random(place)

    def _by_fresh_draws(self, level: float, seed: int) -> list[Verdict]:
        generator = np.random.default_rng(seed + 1)
        tried = list(self.disputed)
        while len(tried) < MOST_STATES:
            length = int(generator.integers(LONGEST_PAST))
            past = [self.symmetry.action_space.sample() for _ in range(length)]
            tried.append(
                ((int(generator.integers(2**31)), past), self.symmetry.action_space.sample())
            )
        places = [self._place(past, action) for past, action in tried]
        usable = [place for place in places if place is not None]
        agreed = [(state, action) for state, action, differed in self.compared if not differed]
        return check_by_fresh_draws(self.symmetry, self.name, usable, agreed, level, seed)

    def _count(self, steps: int) -> None:
        self.steps += steps
        self.on_step()


class Differences:
    """How far apart what was expected and found are, entry by entry, relative to their sizes.

    An entry's size is its own magnitude plus the largest seen of it so far, which counts as at
    most one; no entry is taken for less than a `LEAST_SHARE` of the largest beside it, below which
    rounding of that one shows, or than `LEAST_SIZE`.
    """

    def __init__(self) -> None:
        self._largest: dict[str, Any] = {}

    def __call__(self, name: str, expected: Any, found: Any) -> float:
        """The largest relative difference; infinite where one alone is infinite or NaN.

        Args:
            name: of the quantity, whose sizes are remembered.
            expected: an array, a number, or a dict of them.
            found: likewise.
        """
        if isinstance(expected, dict):
            parts = [(f"{name}.{key}", expected[key], found[key]) for key in expected]
            return max((self(*part) for part in parts), default=0.0)
        a, b = np.asarray(expected, dtype=np.float64), np.asarray(found, dtype=np.float64)
        magnitude = np.where(np.isfinite(a), np.abs(a), 0)
        largest = self._largest[name] = np.maximum(self._largest.get(name, 0.0), magnitude)
        least = max(LEAST_SHARE * float(largest.max(initial=0)), LEAST_SIZE)
        sizes = np.maximum(np.minimum(largest, 1) + magnitude, least)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):  # inf - inf, which is the same or not finite
            apart = np.where(same, 0, np.abs(a - b) / sizes)
        return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0))
