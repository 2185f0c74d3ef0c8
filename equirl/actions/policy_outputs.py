"""What the action on actions does to a policy's outputs: logits, scales, rescaled actions.

A policy is equivariant when the distribution at gs is that at s, moved by g. Its parameters move by
the maps of this module, one for each kind of distribution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.actions.group_actions import GroupAction
from equirl.actions.layout import Leaf
from equirl.actions.lookups import Lookups
from equirl.actions.maps import NumpyArray
from equirl.actions.signed_permutations import SignedPermutations


def output_actions(actions: GroupAction, space: spaces.Space[Any]) -> dict[str, GroupAction]:
    """By name, the actions that `Symmetry` documents as its attributes; none for other spaces.

    Args:
        actions: the action on ``space``.
        space: of actions.
    """
    maps: Any = actions.maps[0]
    found: dict[str, SignedPermutations] = {}
    if isinstance(space, spaces.Discrete):
        found["action_logits"] = found["q_values"] = _on_blocks_of_logits(maps, [int(space.n)])
    elif isinstance(space, spaces.MultiDiscrete):
        found["action_logits"] = _on_blocks_of_logits(maps, space.nvec.ravel())
    elif isinstance(space, spaces.MultiBinary):
        found["action_logits"] = _on_logits_of_ones(maps)
    elif isinstance(maps, SignedPermutations):
        found["action_means"] = maps
        found["scaled_actions"] = SignedPermutations(maps.index, maps.sign)
        found["log_stds"] = SignedPermutations(maps.index)
    return {
        name: GroupAction(actions.group, (Leaf(None, (outputs.entries,), ""),), ((0,),), (outputs,))
        for name, outputs in found.items()
    }


def _on_blocks_of_logits(maps: Lookups, sizes: NumpyArray | list[int]) -> SignedPermutations:
    """Entry i of ga is ``table[i, v]`` where entry ``index[i]`` of a was v; so moves its logit."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    moved = np.empty((maps.count, starts[-1]), dtype=np.int64)
    rows = np.arange(maps.count)[:, None]
    for i, size in enumerate(sizes):
        was = starts[maps.index[:, i]][:, None] + np.arange(size)
        becomes = maps.table[:, i, :size] - maps.low[:, i, None]
        moved[rows, starts[i] + becomes] = was
    return SignedPermutations(moved)


def _on_logits_of_ones(maps: Lookups) -> SignedPermutations:
    """One logit for each bit; where 0 and 1 are exchanged it changes its sign."""
    sign = np.where(maps.table[:, :, 0] == 0, 1.0, -1.0)
    return SignedPermutations(maps.index, sign).simplified()
