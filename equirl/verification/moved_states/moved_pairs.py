"""Two environments that are brought to the same state, one of which is put into its image."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.utils import EzPickle

from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry
from equirl.verification.moved_states.fresh_draws import Place
from equirl.verification.moved_states.remembering import Memories, moved_action
from equirl.verification.play import kept

StateMap = Callable[[Any], None]

Past = tuple[int, list[Any]]
"""The seed of an episode and the actions so far."""


class MovedPairs:
    """Pairs of environments in s and in gs.

    ``steps`` counts the steps that were taken to get there, and those that `count` is told of.

    Args:
        make_env: makes an environment.
        symmetry: what is claimed.
        name: of the generator g.
        state_map: puts an unwrapped environment from s into gs.
        memories: what wrappers keep of what went before, which is moved with the state.
        on_step: called after each environment step.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        symmetry: Symmetry,
        name: str,
        state_map: StateMap,
        memories: Memories,
        on_step: Callable[[], object],
    ) -> None:
        self.make_env, self.symmetry, self.name = make_env, symmetry, name
        self.g = symmetry.group.index(name)
        self.state_map, self.memories, self.on_step = state_map, memories, on_step
        self.steps = 0

    def count(self) -> None:
        """One more step."""
        self.steps += 1
        self.on_step()

    def at(self, past: Past) -> tuple[gym.Env[Any, Any], gym.Env[Any, Any], Any] | None:
        """An environment with this past, another moved by g, and s; None if the episode is over.

        Raises:
            SymmetryError: the state map failed.
        """
        seed, actions = past
        # New ones for every episode: a state map may leave the random generator in a mirror, and
        # not every environment forgets all of the episode before.
        env, twin = self.make_env(), self.make_env()
        observation, _ = env.reset(seed=seed)
        twin.reset(seed=seed)
        for action in actions:
            observation, _, terminated, truncated, _ = env.step(action)
            twin.step(action)
            self.count()
            if terminated or truncated:
                return None
        try:
            self.state_map(twin.unwrapped)
        except Exception as error:
            raise SymmetryError(f"the state map of {self.name} failed: {error!r}") from error
        self.memories.move(twin, self.g)
        return env, twin, observation

    def place(self, past: Past, action: Any) -> Place | None:
        """The same, to be returned to; None if the episode is over."""
        both = self.at(past)
        if both is None:
            return None
        env, twin, observation = both

        def pair() -> tuple[gym.Env[Any, Any], gym.Env[Any, Any]]:
            return (copy.deepcopy(env), copy.deepcopy(twin)) if copied else self._again(past)

        copied, in_image = _can_be_copied(env), moved_action(self.symmetry, self.g, action)
        return Place(pair, copied, kept(observation), action, in_image)

    def _again(self, past: Past) -> tuple[gym.Env[Any, Any], gym.Env[Any, Any]]:
        both = self.at(past)
        if both is None:
            raise SymmetryError(
                "the same seed and actions ended an episode once and not again: the environment "
                "draws from a generator that reset(seed=…) does not seed"
            )
        return both[:2]


def _can_be_copied(env: gym.Env[Any, Any]) -> bool:
    if isinstance(env.unwrapped, EzPickle):  # a copy of it is made anew, and knows of no past
        return False
    try:
        copy.deepcopy(env)
    except Exception:  # whatever the environment's parts raise
        return False
    return True
