"""Wrappers that change actions, and carry a symmetry where its maps commute with what they do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from equirl.actions import GroupAction, SignedPermutations, leaves_of
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry


def clipped(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``ClipAction``: signed permutations of a box commute with clipping to it."""
    return replace(symmetry, action_space=layer.action_space)


def rescaled(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``RescaleAction``, which plays k·a + c: g moves a to (P(k·a + c) − c) / k.

    That exchanges entries and changes signs as P does, with an offset of its own, and maps the new
    box to itself as P does the one inside.

    Raises:
        SymmetryError: entries that change places are rescaled differently, or the actions are not
            in finite boxes.
    """
    box, name = layer.action_space, type(layer).__name__
    maps: Any = symmetry.actions.maps[0]
    low, high = (np.asarray(end, np.float64).ravel() for end in (box.low, box.high))
    centre = np.asarray(layer.func(np.zeros(box.shape)), np.float64).ravel()
    scale = np.asarray(layer.func(np.ones(box.shape)), np.float64).ravel() - centre
    if not isinstance(maps, SignedPermutations) or not np.isfinite([low, high, centre]).all():
        raise SymmetryError(f"{name} keeps a symmetry of actions in a finite Box of numbers alone")
    full: Any = maps.with_all_arrays()
    unlike = ~np.isclose(scale[full.index], scale, rtol=1e-6, atol=0)
    # By the bounds, which are exact, and by what the wrapper does, up to its rounding.
    offset = low + np.where(full.sign > 0, -low[full.index], high[full.index])
    found = (full.sign * centre[full.index] + full.offset - centre) / scale
    unlike |= ~np.isclose(offset, found, rtol=1e-5, atol=1e-5 * np.maximum(abs(low), abs(high)))
    if unlike.any():
        which = symmetry.group.names[int(unlike.any(axis=1).argmax())]
        raise SymmetryError(
            f"{name} gives bounds to the actions that {which}"
            " does not map to each other: rescale entries that change places alike"
        )
    moved = SignedPermutations(full.index, full.sign, offset).simplified()
    action = GroupAction(
        symmetry.group, leaves_of(box, "action"), symmetry.actions.blocks, (moved,)
    )
    return replace(symmetry, action_space=box, actions=action)


def sticky_from_zero(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of SB3's ``StickyActionEnv``, which may begin an episode with action 0 unasked.

    Raises:
        SymmetryError: the symmetry moves action 0.
    """
    zero = np.zeros(symmetry.action_space.shape or (), np.int64)
    for g, name in enumerate(symmetry.group.names):
        if (symmetry.transform_action(g, zero) != zero).any():
            raise SymmetryError(
                f"StickyActionEnv may begin an episode with action 0, which {name} moves: use "
                "gymnasium.wrappers.StickyAction"
            )
    return symmetry
