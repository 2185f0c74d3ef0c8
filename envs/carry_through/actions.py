"""Wrappers that change actions, and carry a symmetry where its maps commute with what they do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry


def clipped(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``ClipAction``: signed permutations of a box commute with clipping to it."""
    return replace(symmetry, action_space=layer.action_space)


def rescaled(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of ``RescaleAction``, which plays k·a + c: where P(k·a + c) = k·Pa + c for every g.

    Raises:
        SymmetryError: entries that change places are rescaled differently, or the centre of an
            entry that changes sign is moved.
    """
    shape = layer.action_space.shape
    centre = np.asarray(layer.func(np.zeros(shape)), dtype=np.float64)
    scale = np.asarray(layer.func(np.ones(shape)), dtype=np.float64) - centre
    for g, name in enumerate(symmetry.group.names):
        stays = np.allclose(symmetry.transform_action(g, centre), centre, rtol=1e-6, atol=1e-6)
        if not stays or not np.allclose(np.abs(symmetry.transform_action(g, scale)), scale):
            raise SymmetryError(
                f"RescaleAction gives bounds to the actions that {name} does not map to each "
                "other: rescale entries that change places alike, and those that change sign "
                "symmetrically about 0"
            )
    return replace(symmetry, action_space=layer.action_space)


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
