"""Two environments with the same past, one of them put into the moved state, then both step."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from equirl.errors import SymmetryError
from equirl.verification.moved_states.differences import Differences
from equirl.verification.moved_states.fresh_draws import (
    MOST_STATES,
    check_by_fresh_draws,
    is_random,
)
from equirl.verification.moved_states.moved_pairs import MovedPairs, Past
from equirl.verification.moved_states.remembering import moved_action
from equirl.verification.play import kept, stacked
from equirl.verification.statistics.sensitivity import INTERRUPTED
from equirl.verification.verdicts import QUANTITIES, CounterExample, Verdict
from equirl.verification.where import Region, region

SHORT_PAST = 60
"""Most pasts are at most so long. The others, for a quarter of the steps, go as far into episodes
as play does."""

LEAST_PASTS = 25
"""That as many steps as are asked for suffice for, however long they are."""

TRIED = 20
"""Disputed states at which fresh seeds are tried, to see whether outcomes are drawn."""

SEEDS, SEEDS_BY_REPLAY = 100, 24
"""Tried at each: of an environment that can be copied, and of one that is brought there anew."""

LEAST_COMPARED = 20
"""Steps, or what did not differ is undecided."""

EXACT_TOLERANCE = 1e-4
"""Relative difference of observations and rewards that counts as none, unless told otherwise."""

RARE = 0.01
"""A simulator that is given more than that misses its own symmetry, and where bodies touch by more
still: this share of the steps may. Far into episodes, where it errs most, is not looked there."""

STEPS = 3
"""Compared after a state was moved: a few steps on, hidden state shows too."""


class Comparison:
    """The exact check of one generator.

    Args:
        pairs: environments in s and in gs.
        tolerance: relative difference that counts as none.
    """

    def __init__(self, pairs: MovedPairs, tolerance: float) -> None:
        self.pairs, self.tolerance = pairs, tolerance
        self.symmetry, self.name, self.g = pairs.symmetry, pairs.name, pairs.g
        self.differences = Differences()
        self.worst = dict.fromkeys(QUANTITIES, 0.0)
        self.examples: dict[str, CounterExample] = {}
        self.looked_at = self.furthest = self.tried = 0
        self.reach, self.long_steps = SHORT_PAST, 0
        """How far into an episode the longest pasts go, and the steps that they took."""
        self.rewards: set[float] = set()
        self.has_ended = False
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
        furthest = SHORT_PAST if self.errs else max(SHORT_PAST, count // LEAST_PASTS)
        is_drawn, spent = False, 0
        try:
            while spent < count:
                if time.monotonic() > deadline:
                    self.cut_short = "there was no time for more"
                    break
                begun = self.pairs.steps
                self._compare_once(generator, furthest)
                spent += self.pairs.steps - begun
                tried = 0 if self._is_rare(len(self.disputed)) else min(len(self.disputed), TRIED)
                while not is_drawn and self.tried < tried:
                    is_drawn = self._is_random_at(*self.disputed[self.tried])
                if is_drawn and len(self.disputed) >= MOST_STATES:
                    break
        except KeyboardInterrupt:
            self.cut_short = INTERRUPTED
        if is_drawn:
            return self._by_fresh_draws(level, seed, deadline), [
                f"{self.name}: outcomes are drawn at random and differed for the same draws, so "
                "states and their images were played many times with fresh ones"
            ]
        remarks = []
        if self.tried:
            remarks = [
                f"{self.name}: fresh seeds led to the same outcomes at the {self.tried} of these "
                "states where they were tried; if the environment draws from a generator that none "
                "of its attributes holds, that may be the cause"
            ]
        return [self._verdict(quantity) for quantity in QUANTITIES], remarks

    @property
    def errs(self) -> bool:
        """Whether the simulator is known to miss its own symmetry."""
        return self.tolerance > EXACT_TOLERANCE

    def _is_rare(self, count: int) -> bool:
        """Whether so many differing steps may be the simulator's."""
        return self.errs and count <= RARE * self.looked_at

    def _verdict(self, quantity: str) -> Verdict:
        differing = sum(quantity in one for _, _, one in self.compared)
        is_refused = differing > 0 and not self._is_rare(differing)
        place = self._where(quantity) if is_refused else Region("", None)
        outcome: Any = "refused"
        detail = place.words
        if not is_refused:
            outcome, detail = self._not_refused(quantity)
        if differing and outcome == "holds":
            detail += f"; {differing} steps differ by more than {self.tolerance:g}"
        return Verdict(
            self.name,
            quantity,
            "exact",
            outcome,
            self.worst[quantity],
            self.looked_at,
            self.examples.get(quantity) if is_refused else None,
            detail,
            place.board,
        )

    def _not_refused(self, quantity: str) -> tuple[Any, str]:
        """The outcome where nothing differed, and what was looked at."""
        if self.looked_at < LEAST_COMPARED:
            what = f"{self.looked_at} steps were compared, {LEAST_COMPARED} are the least"
            return "undecided", f"{what}: {self.cut_short or 'raise transitions'}"
        seen = f"to step {self.furthest} of episodes"
        if quantity == "reward" and len(self.rewards) == 1:
            reward = min(self.rewards)
            if reward == 0:
                return "undecided", f"no reward was seen {seen}: raise transitions"
            seen += f"; the reward was {reward:g} at every step"
        if quantity == "termination" and not self.has_ended:
            seen += "; no episode ended"
        return "holds", seen

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

    def _compare_once(self, generator: np.random.Generator, furthest: int) -> None:
        """One episode up to some state, which is moved; then a few steps on both sides."""
        begun, is_long = self.pairs.steps, self.long_steps < self.pairs.steps / 4
        length = int(generator.integers(self.reach if is_long else SHORT_PAST))
        seed, past = int(generator.integers(2**31)), self._random_actions(length)
        both = self.pairs.at((seed, past))
        self.long_steps += (self.pairs.steps - begun) * is_long
        if both is None:
            return
        env, twin, observation = both
        observation = kept(observation)
        self.furthest = max(self.furthest, length)
        if length >= self.reach // 2:
            self.reach = min(2 * self.reach, max(self.reach, furthest))
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
            following = kept(following)
            self.pairs.count()
            self.looked_at += 1
            self.rewards.add(float(reward))
            self.has_ended |= bool(terminated)
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
            self.compared.append((observation, action, frozenset(apart)))
            if apart:
                self.disputed.append(((seed, past), action))
            past, observation = [*past, action], following
            if apart or terminated or truncated:  # what follows a breach says nothing more
                break

    def _random_actions(self, count: int) -> list[Any]:
        return [self.symmetry.action_space.sample() for _ in range(count)]

    def _is_random_at(self, past: Past, action: Any) -> bool:
        self.tried += 1
        place = self.pairs.place(past, action)
        if place is None:
            return False
        return is_random(place, SEEDS if place.is_copied else SEEDS_BY_REPLAY)

    def _by_fresh_draws(self, level: float, seed: int, deadline: float) -> list[Verdict]:
        generator = np.random.default_rng(seed + 1)
        tried = self.disputed[:MOST_STATES]
        while len(tried) < MOST_STATES:
            past = self._random_actions(int(generator.integers(SHORT_PAST)))
            tried.append(
                ((int(generator.integers(2**31)), past), self.symmetry.action_space.sample())
            )
        places = [self.pairs.place(past, action) for past, action in tried]
        usable = [place for place in places if place is not None]
        agreed = [(state, action) for state, action, differed in self.compared if not differed]
        return check_by_fresh_draws(self.symmetry, self.name, usable, agreed, level, seed, deadline)
