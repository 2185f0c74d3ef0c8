"""Wrappers that change observations: W∘g∘W⁻¹ for each wrapper W that can be undone.

The result is compiled by probing like any declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.wrappers.utils import create_zero_array

from equirl.actions import GroupAction, Leaf, Lookups, Maps, SignedPermutations, leaves_of
from equirl.declaring import compile_action
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

ObservationMap = Callable[[Any], Any]
Lift = Callable[[ObservationMap], ObservationMap]
"""From the map of an inner observation to the map of the wrapped one."""


def lifted(symmetry: Symmetry, observation_space: spaces.Space[Any], lift: Lift) -> Symmetry:
    """The same group acting on other observations.

    Args:
        symmetry: of the inner observations.
        observation_space: of the outer ones.
        lift: from each map of an inner observation to that of the outer one.
    """
    inner = _on_all_numbers(symmetry, observation_space)
    maps = {name: lift(partial(inner.transform, name)) for name in symmetry.group.names}
    action = compile_action(symmetry.group, observation_space, maps)
    return replace(symmetry, observation_space=observation_space, observations=action)


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


REPEATED = 'FrameStackObservation(…, padding_type="reset")'


def stacked_along_new_axis(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``FrameStackObservation``."""
    if layer.padding_type != "reset":
        _check_padding(symmetry, layer.padding_value, REPEATED)
    lift = _frame_by_frame(lambda key, stack: stack, lambda key, frames: np.stack(frames))
    return lifted(symmetry, layer.observation_space, lift)


def stacked_along_channels(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``VecFrameStack``."""
    _check_padding(symmetry, _zeros(symmetry), f"{REPEATED} in each environment")

    def axis(key: Any) -> Any:
        of_all = layer.stacked_obs
        return (of_all if key is None else of_all.sub_stacked_observations[key]).repeat_axis

    lift = _frame_by_frame(
        lambda key, stack: np.split(stack, layer.stacked_obs.n_stack, axis=axis(key)),
        lambda key, frames: np.concatenate(frames, axis=axis(key)),
    )
    return lifted(symmetry, layer.observation_space, lift)


def delayed(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``DelayObservation``, whose episodes start with what is nearest to zero in the space."""
    if layer.delay:
        _check_padding(symmetry, create_zero_array(layer.observation_space), "no delay")
    return symmetry


def maximum_of_frames(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``MaxAndSkipObservation``: maxima commute with changes of place, not of sign."""
    for maps in symmetry.observations.maps:
        if not _only_changes_places(maps):
            raise SymmetryError(
                f"{type(layer).__name__} takes the largest of two frames, which keeps symmetries "
                "that only change the places of entries: use gymnasium.wrappers.RepeatAction"
            )
    return symmetry


def _only_changes_places(maps: Maps) -> bool:
    if isinstance(maps, Lookups):
        values_stay = maps.table == maps.identity().table
        same_low = np.take_along_axis(maps.low, maps.index, axis=1) == maps.low
        return bool(values_stay.all() and same_low.all())
    return isinstance(maps, SignedPermutations) and maps.simplified().sign is None


def flattened(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``FlattenObservation``, for boxes."""
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

    return lifted(symmetry, layer.observation_space, lift)


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


def rescaled(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``RescaleObservation``."""
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

    return lifted(symmetry, layer.observation_space, lift)


def reshaped(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``ReshapeObservation``."""
    inner, outer = layer.env.observation_space.shape, layer.observation_space.shape
    return lifted(
        symmetry, layer.observation_space, lambda g: lambda s: g(s.reshape(inner)).reshape(outer)
    )


def cast(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``DtypeObservation``."""
    inner, outer = layer.env.observation_space.dtype, layer.observation_space.dtype
    (maps,) = symmetry.observations.maps
    odd = isinstance(maps, SignedPermutations) and maps.simplified().offset is None
    if np.issubdtype(inner, np.floating) and not np.issubdtype(outer, np.floating) and not odd:
        raise SymmetryError(
            f"DtypeObservation cuts {inner} off to {outer}, and cutting off commutes with changes "
            "of sign and of place, not with this symmetry: choose a floating-point dtype"
        )
    return lifted(symmetry, layer.observation_space, lambda g: g)


def filtered(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``FilterObservation``, which keeps some keys of a Dict."""
    return _restricted(symmetry, layer.observation_space, set(layer.observation_space.spaces))


def extracted(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``VecExtractDictObs``, which keeps one key of a Dict."""
    return _restricted(symmetry, layer.observation_space, {layer.key})


def image_alone(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of MiniGrid's ``ImgObsWrapper``, which keeps the image."""
    return _restricted(symmetry, layer.observation_space, {"image"})


def _restricted(
    symmetry: Symmetry, observation_space: spaces.Space[Any], keys: Collection[str | None]
) -> Symmetry:
    """The action on some keys of a Dict, where no element moves anything else into them."""
    action = symmetry.observations
    leaves = leaves_of(observation_space)
    position = {leaf.key: j for j, leaf in enumerate(leaves)}
    if not isinstance(observation_space, spaces.Dict):
        position = dict.fromkeys(keys, 0)
    blocks, maps = [], []
    for block, own in zip(action.blocks, action.maps, strict=True):
        names = [action.leaves[j].key for j in block]
        kept = [name for name in names if name in keys]
        if kept and kept != names:
            lost = sorted(str(name) for name in names if name not in keys)
            raise SymmetryError(
                f"the symmetry moves observation[{kept[0]!r}] together with {', '.join(lost)}, "
                "which a wrapper leaves out: keep all of them, or none"
            )
        if kept:
            blocks.append(tuple(position[name] for name in names))
            maps.append(own)
    kept_action = GroupAction(action.group, leaves, tuple(blocks), tuple(maps))
    return replace(symmetry, observation_space=observation_space, observations=kept_action)


def _parts(space: spaces.Space[Any]) -> dict[Any, Any]:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {None: space}


def _zeros(symmetry: Symmetry) -> Any:
    zeros = {
        key: np.zeros(space.shape, space.dtype)
        for key, space in _parts(symmetry.observation_space).items()
    }
    return zeros.get(None, zeros)


def _check_padding(symmetry: Symmetry, padding: Any, remedy: str) -> None:
    """Observations that stand in at the start of an episode must not move."""
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
                f"place: use {remedy}"
            )
