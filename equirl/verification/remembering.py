"""Wrappers that keep what went before: a state map moves the environment under them, not that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers

REMEMBER = tuple(
    getattr(wrappers, name)
    for name in ("FrameStackObservation", "DelayObservation", "StickyAction")
    if hasattr(wrappers, name)
)
"""Of those of Gymnasium, which keep observations or actions beyond a step."""

KNOWN = ("gymnasium.", "stable_baselines3.", "equirl.")
"""The modules whose other wrappers keep nothing that a symmetry moves."""

STEPS = 3


def remembering_wrapper(make_env: Callable[[], gym.Env[Any, Any]]) -> str | None:
    """The name of a wrapper that keeps what went before; None where there is none.

    A wrapper of one's own is taken for one if any number that it keeps changes while it is stepped.

    Args:
        make_env: makes an environment.
    """
    env = make_env()
    layers = [layer for layer in _layers(env) if isinstance(layer, gym.Wrapper)]
    known = next((type(layer).__name__ for layer in layers if isinstance(layer, REMEMBER)), None)
    own = [layer for layer in layers if not type(layer).__module__.startswith(KNOWN)]
    if known is not None or not own:
        return known
    env.reset(seed=0)
    env.action_space.seed(0)
    before = [list(_numbers(_kept(layer))) for layer in own]
    for _ in range(STEPS):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            break
    for layer, earlier in zip(own, before, strict=True):
        now = list(_numbers(_kept(layer)))
        if len(now) != len(earlier) or not all(map(np.array_equal, earlier, now)):
            return type(layer).__name__
    return None


def _layers(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    yield env
    if isinstance(env, gym.Wrapper):
        yield from _layers(env.env)


def _kept(layer: gym.Env[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items() if name != "env"}


def _numbers(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Copies of the numbers and arrays in a value and in the containers that it is made of."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list | tuple | deque):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float | np.ndarray | np.generic):
        yield np.array(value)
