"""What wrappers keep of what went before, which has to move with the state of the environment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers

from equirl.envs import symmetry_of
from equirl.envs.carry_through import carried_through
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry


def moved_action(symmetry: Symmetry, g: int, action: Any) -> Any:
    """ga as an environment takes it: a number where actions are numbers."""
    moved = symmetry.transform_action(g, action)
    return int(moved) if np.ndim(moved) == 0 else moved


def _move_frames(layer: Any, inside: Symmetry, g: int) -> None:
    frames = [inside.transform_observation(g, frame) for frame in layer.obs_queue]
    layer.obs_queue = deque(frames, maxlen=layer.obs_queue.maxlen)


def _move_delayed(layer: Any, inside: Symmetry, g: int) -> None:
    queue = layer.observation_queue
    waiting = [inside.transform_observation(g, one) for one in queue]
    queue.clear()
    queue.extend(waiting)


def _move_last_action(layer: Any, inside: Symmetry, g: int) -> None:
    if layer.last_action is not None:
        layer.last_action = moved_action(inside, g, layer.last_action)


REMEMBER: dict[type[Any], Callable[[Any, Symmetry, int], None]] = {
    getattr(wrappers, name): move
    for name, move in {
        "FrameStackObservation": _move_frames,
        "DelayObservation": _move_delayed,
        "StickyAction": _move_last_action,
    }.items()
    if hasattr(wrappers, name)
}
"""Of those of Gymnasium, which keep observations or actions beyond a step, and how g moves them."""

KNOWN = ("gymnasium.", "stable_baselines3.", "equirl.")
"""The modules whose other wrappers keep nothing that a symmetry moves."""

STEPS = 3


@dataclass(frozen=True)
class Memories:
    """What the wrappers of an environment keep of what went before.

    Args:
        inside: of each such wrapper how many layers down it is, and the symmetry of what it wraps.
        left: the name of a wrapper whose memory cannot be moved; None where there is none.
    """

    inside: tuple[tuple[int, Symmetry], ...] = ()
    left: str | None = None

    def move(self, env: gym.Env[Any, Any], g: int) -> None:
        """Put what the wrappers of an environment keep into the state moved by g, in place."""
        layers = list(_layers(env))
        for depth, symmetry in self.inside:
            REMEMBER[type(layers[depth])](layers[depth], symmetry, g)


def memories_of(make_env: Callable[[], gym.Env[Any, Any]], symmetry: Symmetry) -> Memories:
    """What the wrappers of an environment keep, and whether a symmetry moves it with the state.

    It does where it is known of what is inside such a wrapper, and carried out from there is the
    claimed one. A wrapper of one's own is taken for one that remembers if any number that it keeps
    changes while it is stepped.

    Args:
        make_env: makes an environment.
        symmetry: what is claimed of what comes out of it.
    """
    env = make_env()
    layers = list(_layers(env))
    inside = []
    for depth, layer in enumerate(layers):
        if isinstance(layer, tuple(REMEMBER)):
            found = _inside(layers[: depth + 1], symmetry)
            if found is None:
                return Memories(left=type(layer).__name__)
            inside.append((depth, found))
    return Memories(tuple(inside), _own_that_remembers(env, layers))


def _inside(layers: list[Any], symmetry: Symmetry) -> Symmetry | None:
    """The symmetry inside the last of these layers, if it is the claimed one outside the first."""
    if type(layers[-1]) not in REMEMBER:
        return None
    try:
        inside = carried = symmetry_of(layers[-1].env)
        for layer in reversed(layers):
            carried = carried_through(carried, layer)
    except SymmetryError:
        return None
    return inside if carried == symmetry else None


def _own_that_remembers(env: gym.Env[Any, Any], layers: list[Any]) -> str | None:
    own = [
        layer
        for layer in layers
        if isinstance(layer, gym.Wrapper) and not type(layer).__module__.startswith(KNOWN)
    ]
    if not own:
        return None
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
