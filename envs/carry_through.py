"""Carrying a symmetry through the wrappers between an environment and its policy.

A wrapper that turns observations s into W(s) turns the action of g into W∘g∘W⁻¹. For each wrapper
that can be undone this module says how; the result is compiled by probing like any declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import GroupAction
from equirl.actions.layout import Leaf, leaves_of
from equirl.actions.lookups import Lookups
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations
from equirl.declaring.generated_actions import compile_action
from equirl.envs.transposed_images import with_channels_first
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

ObservationMap = Callable[[Any], Any]
Lift = Callable[[ObservationMap], ObservationMap]
"""From the map of an inner observation to the map of the wrapped one."""

TRANSPARENT = frozenset(
    {
        "Autoreset",
        "ClipReward",
        "ClipRewardEnv",
        "GuardedEnv",
        "HumanRendering",
        "Monitor",
        "NormalizeReward",
        "OrderEnforcing",
        "PassiveEnvChecker",
        "PatchedTimeLimit",  # what RL Zoo puts in the place of TimeLimit
        "RandomTransformWrapper",
        "RecordEpisodeStatistics",
        "RecordVideo",
        "RenderCollection",
        "ReportingEnv",
        "ResumableEnv",
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
    # One of ours, which knows. Of the class, since SB3's wrappers pass on what is inside them.
    if hasattr(type(layer), "carried_symmetry"):
        carried: Symmetry = layer.carried_symmetry(symmetry)
        return carried
    if name == "VecNormalize":
        if not layer.norm_obs:
            return symmetry
        raise SymmetryError(
            "VecNormalize normalises observations by statistics that are not symmetric: use "
            "equirl.agents.SymmetricVecNormalize, or norm_obs=False"
        )
    if name == "VecTransposeImage":
        return with_channels_first(symmetry, layer.observation_space)
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
    inner = _on_all_numbers(symmetry, observation_space)
    maps = {name: lift(partial(inner.transform, name)) for name in symmetry.group.names}
    return Symmetry(
        symmetry.group,
        observation_space,
        symmetry.action_space,
        compile_action(symmetry.group, observation_space, maps),
        symmetry.actions,
    )


def _on_all_numbers(symmetry: Symmetry, observation_space: spaces.Space[Any]) -> GroupAction:
    """The same action; finite entries that a wrapper writes into a Box may hold any number.

    A table of the whole numbers of a Box stays one, since these are whole numbers outside as well.
    """
    action = symmetry.observations
    maps: list[Maps] = []
    kept = list(action.leaves)
    outside = {leaf.key: leaf for leaf in leaves_of(observation_space)}
    for block, own in zip(action.blocks, action.maps, strict=True):
        leaves = [action.leaves[j] for j in block]
        outer = outside.get(leaves[0].key, next(iter(outside.values())))
        of_whole_numbers = leaves[0].low is None and not outer.is_float
        if isinstance(own, Lookups) and outer.low is None and not of_whole_numbers:
            own = _extended(own, (own.table[0].max(axis=1) - own.low[0] + 1))
        if not isinstance(own, Lookups):
            for j in block:
                kept[j] = Leaf(kept[j].key, kept[j].shape, "")
        maps.append(own)
    return GroupAction(action.group, tuple(kept), action.blocks, tuple(maps))


def _extended(lookups: Lookups, values: npt.NDArray[np.int64]) -> SignedPermutations:
    """The signed permutation that does to the values of each entry what the table does."""
    table, counts = lookups.table.astype(np.float64), np.arange(lookups.table.shape[2])
    sign = np.where(values > 1, table[..., min(1, len(counts) - 1)] - table[..., 0], 1)
    line = table[..., :1] + sign[..., None] * np.minimum(counts, values[:, None] - 1)
    if (np.abs(sign) != 1).any() or (line != table).any():
        raise SymmetryError(
            "the symmetry renames whole numbers, which become a Box of other numbers outside: "
            "renaming is not an affine map of numbers, so leave that wrapper out"
        )
    low = np.take_along_axis(lookups.low, lookups.index, axis=1)
    return SignedPermutations(lookups.index, sign, table[..., 0] - sign * low).simplified()


def _frame_by_frame(split: Callable[[Any, Any], Any], join: Callable[[Any, Any], Any]) -> Lift:
    """Both are told the key of a Dict, or None; the same symmetry moves every frame."""

    def lift(g: ObservationMap) -> ObservationMap:
        def moved(stack: Any) -> Any:
            if not isinstance(stack, dict):
                return join(None, [g(frame) for frame in split(None, stack)])
            parts = zip(*(split(key, part) for key, part in stack.items()), strict=True)
            frames = [g(dict(zip(stack, part, strict=True))) for part in parts]
            return {key: join(key, [frame[key] for frame in frames]) for key in stack}

        return moved

    return lift


def _stacked_along_new_axis(symmetry: Symmetry, layer: Any) -> Lift:
    if layer.padding_type != "reset":
        _check_padding(symmetry, layer.padding_value)
    return _frame_by_frame(lambda key, stack: stack, lambda key, frames: np.stack(frames))


def _stacked_along_channels(symmetry: Symmetry, layer: Any) -> Lift:
    zeros = {
        key: np.zeros(space.shape, space.dtype)
        for key, space in _parts(symmetry.observation_space).items()
    }
    _check_padding(symmetry, zeros.get(None, zeros))

    def axis(key: Any) -> Any:
        of_all = layer.stacked_obs
        return (of_all if key is None else of_all.sub_stacked_observations[key]).repeat_axis

    return _frame_by_frame(
        lambda key, stack: np.split(stack, layer.stacked_obs.n_stack, axis=axis(key)),
        lambda key, frames: np.concatenate(frames, axis=axis(key)),
    )


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
        def moved(flat: Any) -> Any:
            parts = g(_unflattened(inner, flat))
            return _joined(list(parts.values()) if isinstance(parts, dict) else [parts])

        return moved

    return lift


def _joined(parts: list[Any]) -> Any:
    # Like spaces.flatten, but keeping the dtype: probing works in double precision.
    return np.concatenate([np.ravel(part) for part in parts])


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
    # Read off the wrapper, which computes in the dtype of the observation, even if that is uint8.
    shape = layer.observation_space.shape
    shift = layer.func(np.zeros(shape)).astype(np.float64)
    scale = layer.func(np.ones(shape)).astype(np.float64) - shift
    if (scale == 0).any():
        dtype = layer.observation_space.dtype
        raise SymmetryError(
            f"RescaleObservation turns every observation of this range into the same {dtype}: put "
            "DtypeObservation(env, np.float32) inside it"
        )

    def lift(g: ObservationMap) -> ObservationMap:
        def moved(scaled: Any) -> Any:
            result = scale * g((scaled - shift) / scale) + shift
            return result if np.issubdtype(scaled.dtype, np.floating) else np.rint(result)

        return moved

    return lift


def _reshaped(symmetry: Symmetry, layer: Any) -> Lift:
    inner, outer = layer.env.observation_space.shape, layer.observation_space.shape
    return lambda g: lambda observation: g(observation.reshape(inner)).reshape(outer)


def _cast(symmetry: Symmetry, layer: Any) -> Lift:
    inner, outer = layer.env.observation_space.dtype, layer.observation_space.dtype
    (maps,) = symmetry.observations.maps
    odd = isinstance(maps, SignedPermutations) and maps.simplified().offset is None
    if np.issubdtype(inner, np.floating) and not np.issubdtype(outer, np.floating) and not odd:
        raise SymmetryError(
            f"DtypeObservation cuts {inner} off to {outer}, and cutting off commutes with changes "
            "of sign and of place, not with this symmetry: choose a floating-point dtype"
        )
    return lambda g: g


LIFTS: dict[str, Callable[[Symmetry, Any], Lift]] = {
    "DtypeObservation": _cast,
    "FlattenObservation": _flattened,
    "FrameStackObservation": _stacked_along_new_axis,
    "RescaleObservation": _rescaled,
    "ReshapeObservation": _reshaped,
    "VecFrameStack": _stacked_along_channels,
}
"""By wrapper class; each gets the inner symmetry and the wrapper."""


def _parts(space: spaces.Space[Any]) -> dict[Any, Any]:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {None: space}


def _check_padding(symmetry: Symmetry, padding: Any) -> None:
    """Frames that stand in at the start of an episode must not move."""
    for g, name in enumerate(symmetry.group.names):
        moved = symmetry.transform_observation(g, padding)
        pairs = (
            [(moved[k], padding[k]) for k in padding]
            if isinstance(padding, dict)
            else [(moved, padding)]
        )
        if not all(np.allclose(a, b) for a, b in pairs):
            raise SymmetryError(
                f"stacked frames start an episode with padding that {name} does not leave in "
                'place: use FrameStackObservation(…, padding_type="reset"), which repeats the '
                "first frame"
            )
