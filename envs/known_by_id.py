"""The symmetry registered for an id, as it moves the observations that a policy sees."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, FrameStackObservation

from equirl.envs.registry import registered_wrappers
from equirl.envs.symmetry_search import symmetry_of
from equirl.envs.transposed_images import with_channels_first
from equirl.errors import SymmetryError
from equirl.shown import reason, shown
from equirl.symmetry import Symmetry

Layer = Callable[[Any], Any]


def symmetry_by_id(
    env_id: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> Symmetry:
    """The registered symmetry of an environment, carried to the observations of a policy.

    What lies between the two is not known to a policy. But its spaces are: of the wrappers that a
    configuration usually names (those that the symmetry was registered for, stacks of frames,
    flattening, SB3's turning of images) those are taken that end in exactly these spaces.

    Args:
        env_id: the id, as `gymnasium.make` takes it.
        observation_space: of the policy, images turned by SB3 or not.
        action_space: of the policy.

    Returns:
        The symmetry of what comes out of the last wrapper; `with_channels_first` turns images.

    Raises:
        SymmetryError: no symmetry is known for the id, or none of these wrappers ends there.
    """
    try:
        env = gym.make(env_id)
    except Exception as error:  # whatever its module or constructor raises
        raise SymmetryError(f"no environment {env_id!r} can be made: {reason(error)}") from error
    refusal: SymmetryError | None = None
    fits: list[Symmetry] = []
    seen: list[Symmetry] = []
    try:
        for wrapped in _wrapped(env, observation_space):
            if not _may_turn_into(wrapped.observation_space, observation_space):
                continue
            try:
                symmetry = symmetry_of(wrapped)
                seen.append(with_channels_first(symmetry, observation_space))
            except SymmetryError as error:
                refusal = refusal or error
            else:
                fits.append(symmetry)
        if not fits:
            symmetry_of(env)  # where nothing is known at all, that is what to say
    finally:
        env.close()
    if fits and fits[0].action_space == action_space and all(one == seen[0] for one in seen):
        return fits[0]
    raise refusal or SymmetryError(
        f"the symmetry of {env_id} does not say how it moves {shown(observation_space)} and "
        f"{shown(action_space)}, which the policy sees: give it the symmetry itself, "
        "policy_kwargs=dict(symmetry=symmetry_of(env)), or put SymmetryWrapper around the "
        "environment and use EquivariantDQN"
    )


def _may_turn_into(space: spaces.Space[Any], seen: spaces.Space[Any]) -> bool:
    """Whether what a policy sees may be this space, with images turned by SB3."""
    from stable_baselines3.common.vec_env import VecTransposeImage

    if space == seen:
        return True
    try:
        turned = VecTransposeImage.transpose_space
        if not isinstance(space, spaces.Dict):
            return isinstance(space, spaces.Box) and bool(turned(space) == seen)
    except AssertionError:  # not an image
        return False
    return (
        isinstance(seen, spaces.Dict)
        and space.spaces.keys() == seen.spaces.keys()
        and all(_may_turn_into(part, seen[key]) for key, part in space.spaces.items())
    )


def _wrapped(env: gym.Env[Any, Any], seen: spaces.Space[Any]) -> Iterator[Any]:
    """The environment behind each of the usual wrappers that may end in a space."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

    inside = [env, *_behind_own(env)]
    for one in inside:
        yield one
        frames = _frames(one.observation_space, seen)
        layers: list[Layer] = [FlattenObservation]
        if frames > 1:
            stacked: Layer = partial(FrameStackObservation, stack_size=frames)
            layers += [stacked, partial(_flat_frames, stack_size=frames)]
        for layer in layers:
            yield from _made(layer, one)
        if frames > 1:
            envs = DummyVecEnv([partial(_itself, one)])
            for order in ("last", "first"):
                vec_stacked = partial(VecFrameStack, n_stack=frames, channels_order=order)
                yield from _made(vec_stacked, envs)


def _itself(env: Any) -> Any:
    return env


def _flat_frames(env: Any, stack_size: int) -> Any:
    return FlattenObservation(FrameStackObservation(env, stack_size))


def _behind_own(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """The environment behind one or two of the wrappers that its symmetry is registered for."""
    own = []
    for reference in sorted(registered_wrappers(env.spec.id if env.spec else None)):
        module, _, name = reference.partition(":")
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            own.append(getattr(importlib.import_module(module), name))
    for inner in own:
        for once in _made(inner, env):
            yield once
            for outer in own:
                if outer is not inner:
                    yield from _made(outer, once)


def _made(layer: Layer, env: Any) -> Iterator[Any]:
    """The wrapped environment, where the wrapper takes it."""
    try:
        yield layer(env)
    except Exception:  # wrappers refuse what they do not know in many ways
        return


def _frames(space: spaces.Space[Any], seen: spaces.Space[Any]) -> int:
    """How many observations of one space make one of another; 0 where none do."""
    counts = set()
    pairs = [(space, seen)]
    if isinstance(space, spaces.Dict) and isinstance(seen, spaces.Dict):
        pairs = [(part, seen[key]) for key, part in space.spaces.items() if key in seen.spaces]
    for one, many in pairs:
        sizes = [
            spaces.flatdim(part) if isinstance(part, spaces.Box) else 0 for part in (one, many)
        ]
        counts.add(sizes[1] // sizes[0] if sizes[0] and sizes[1] % sizes[0] == 0 else 0)
    return counts.pop() if len(counts) == 1 else 0
