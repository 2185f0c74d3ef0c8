"""The symmetries of the square as words in the generators, and what they do, letter by letter."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS

GROUP_ELEMENTS = tuple("r" * turns + "s" * mirrors for turns in range(4) for mirrors in range(2))


def transform_observation(word: str, observation: NDArray[Any]) -> NDArray[Any]:
    for generator in word:
        observation = GRID_WORLD_GENERATORS[generator][0](observation)
    return observation


def transform_action(word: str, action: int) -> int:
    for generator in word:
        action = GRID_WORLD_GENERATORS[generator][1][action]
    return action
