"""Carrying a symmetry through the wrappers between an environment and its policy.

A wrapper that turns observations s into W(s) turns the action of g into W∘g∘W⁻¹. For each wrapper
that can be undone this module says how; the result is compiled by probing like any declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.errors import SymmetryError
from equirl.group_actions import compile_action
from equirl.symmetry import Symmetry

ObservationMap = Callable[[Any], Any]
Lift = Callable[[ObservationMap], ObservationMap]
"""From the map of an inner observation to the map of the wrapped one."""

TRANSPARENT = frozenset(
    {
        "Autoreset",
        "ClipReward",
        "ClipRewardEnv",
        "HumanRendering",
        "Monitor",
        "NormalizeReward",
        "OrderEnforcing",
        "PassiveEnvChecker",
        "RandomTransformWrapper",
        "RecordEpisodeStatistics",
        "RecordVideo",
        "RenderCollection",
        "TimeLimit",
        "TransformReward",
        "TransformWrapper",
        "VecCheckNan",
        "VecMonitor",
        "VecVideoRecorder",
    }
)
"""Wrappers that hand observations and actions on unchanged, or moved by a group element."""


def carried_through(symmetry: Symmetry, layer: Any) -> Symmetry:
    """The symmetry of what comes out of a wrapper, given that of what goes in.

    Args:
        symmetry: of the observations inside.
        layer: the wrapper, Gymnasium's or SB3's (``VecEnvWrapper``).

    Raises:
        SymmetryError: the wrapper may change observations or actions in a way that is not known
            to keep the symmetry; the message says what to do.
    """
    name = type(layer).__name__
    if name in TRANSPARENT:
        return symmetry
    if hasattr(layer, "carried_symmetry"):  # one of ours, which knows
        carried: Symmetry = layer.carried_symmetry(symmetry)
        return carried
    if name == "VecNormalize":
        if not layer.norm_obs:
            return symmetry
        raise SymmetryError(
            "VecNormalize normalises observations by statistics that are not symmetric: use "
            "equirl.agents.SymmetricVecNormalize, or norm_obs=False"
        )
    if name not in LIFTS:
        raise cannot_carry(name, is_vectorized=hasattr(layer, "venv"))
    return lifted(symmetry, layer.observation_space, LIFTS[name](symmetry, layer))


def cannot_carry(name: str, is_vectorized: bool) -> SymmetryError:
    """The error for a wrapper that is not known to keep a symmetry."""
    advice = (
        "do the same inside each environment, and put SymmetryWrapper(…, symmetry) around it"
        if is_vectorized
        else f"declare the symmetry of what comes out, SymmetryWrapper({name}(…), symmetry)"
    )
    return SymmetryError(
        f"{name} may change observations or actions, and the symmetry of what is inside it cannot "
        f"be carried through: {advice}"
    )


def lifted(symmetry: Symmetry, observation_space: spaces.Space[Any], lift: Lift) -> Symmetry:
    """The same group acting on other observations.

    Args:
        symmetry: of the inner observations.
        observation_space: of the outer ones.
        lift: from each map of an inner observation to that of the outer one.
    """
    names = symmetry.group.names
    maps = {name: lift(partial(symmetry.transform_observation, name)) for name in names}
    return Symmetry(
        symmetry.group,
        observation_space,
        symmetry.action_space,
        compile_action(symmetry.group, observation_space, maps),
        symmetry.permutations,
    )


def _stacked_along_new_axis(symmetry: Symmetry, layer: Any) -> Lift:
    _check_padding(symmetry, layer.padding_value, layer.padding_type == "reset")
    return lambda g: lambda stack: np.stack([g(frame) for frame in stack])


def _stacked_along_channels(symmetry: Symmetry, layer: Any) -> Lift:
    stacking = layer.stacked_obs
    padding = {
        key: np.zeros(space.shape, space.dtype)
        for key, space in _parts(symmetry.observation_space).items()
    }
    _check_padding(symmetry, padding.get(None, padding), False)

    def frames_of(stack: Any, stacked: Any) -> list[Any]:
        return np.split(stack, stacked.n_stack, axis=stacked.repeat_axis)

    def lift(g: ObservationMap) -> ObservationMap:
        def moved(stack: Any) -> Any:
            if not isinstance(stack, dict):
                frames = [g(frame) for frame in frames_of(stack, stacking)]
                return np.concatenate(frames, axis=stacking.repeat_axis)
            subs = stacking.sub_stacked_observations
            split = {key: frames_of(part, subs[key]) for key, part in stack.items()}
            count = stacking.n_stack
            frames = [g({key: part[i] for key, part in split.items()}) for i in range(count)]
            return {
                key: np.concatenate([frame[key] for frame in frames], axis=subs[key].repeat_axis)
                for key in stack
            }

        return moved

    return lift


def _flattened(symmetry: Symmetry, layer: Any) -> Lift:
    inner = layer.env.observation_space
    for key, part in _parts(inner).items():
        if not isinstance(part, spaces.Box):
            where = "the observation" if key is None else f"observation[{key!r}]"
            raise SymmetryError(
                f"FlattenObservation turns {where}, a {type(part).__name__}, into another "
                "encoding: leave it out, SB3 encodes such observations itself"
            )

    def lift(g: ObservationMap) -> ObservationMap:
        return lambda flat: spaces.flatten(inner, g(_unflattened(inner, flat)))

    return lift


def _unflattened(space: spaces.Space[Any], flat: Any) -> Any:
    # Like spaces.unflatten, but keeping the dtype: probing works in double precision.
    if isinstance(space, spaces.Box):
        return flat.reshape(space.shape)
    parts, start = {}, 0
    for key, part in _parts(space).items():
        size = int(np.prod(part.shape, dtype=int))
        parts[key] = flat[start : start + size].reshape(part.shape)
        start += size
    return parts


def _rescaled(symmetry: Symmetry, layer: Any) -> Lift:
    inner, outer = layer.env.observation_space, layer.observation_space
    finite = np.isfinite(inner.low) & np.isfinite(inner.high)
    width = np.where(finite, inner.high.astype(float) - inner.low, 1)
    scale = np.where(finite, (outer.high.astype(float) - outer.low) / width, 1)
    shift = np.where(finite, outer.low - scale * np.where(finite, inner.low, 0), 0)

    def lift(g: ObservationMap) -> ObservationMap:
        return lambda scaled: scale * g((scaled - shift) / scale) + shift

    return lift


def _reshaped(symmetry: Symmetry, layer: Any) -> Lift:
    inner, outer = layer.env.observation_space.shape, layer.observation_space.shape
    return lambda g: lambda observation: g(observation.reshape(inner)).reshape(outer)


def _cast(symmetry: Symmetry, layer: Any) -> Lift:
    return lambda g: g


def _channels_first(symmetry: Symmetry, layer: Any) -> Lift:
    if getattr(layer, "skip", False):
        return lambda g: g
    keys = getattr(layer, "image_space_keys", None)

    def lift(g: ObservationMap) -> ObservationMap:
        def moved(observation: Any) -> Any:
            if not isinstance(observation, dict):
                return np.transpose(g(np.transpose(observation, (1, 2, 0))), (2, 0, 1))
            images = keys or []
            last = {
                key: np.transpose(part, (1, 2, 0)) if key in images else part
                for key, part in observation.items()
            }
            return {
                key: np.transpose(part, (2, 0, 1)) if key in images else part
                for key, part in g(last).items()
            }

        return moved

    return lift


LIFTS: dict[str, Callable[[Symmetry, Any], Lift]] = {
    "DtypeObservation": _cast,
    "FlattenObservation": _flattened,
    "FrameStackObservation": _stacked_along_new_axis,
    "RescaleObservation": _rescaled,
    "ReshapeObservation": _reshaped,
    "VecFrameStack": _stacked_along_channels,
    "VecTransposeImage": _channels_first,
}
"""By wrapper class; each gets the inner symmetry and the wrapper."""


def _parts(space: spaces.Space[Any]) -> dict[Any, Any]:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {None: space}


def _check_padding(symmetry: Symmetry, padding: Any, by_first_frame: bool) -> None:
    """Frames that stand in at the start of an episode must not move."""
    if by_first_frame:
        return
    for g in range(symmetry.group.order):
        moved = symmetry.transform_observation(g, padding)
        pairs = (
            [(moved[k], padding[k]) for k in padding]
            if isinstance(padding, dict)
            else [(moved, padding)]
        )
        if not all(np.allclose(a, b) for a, b in pairs):
            raise SymmetryError(
                f"stacked frames start an episode with padding that {symmetry.group.names[g]} does "
                'not leave in place: pad with the first frame (padding_type="reset")'
            )
