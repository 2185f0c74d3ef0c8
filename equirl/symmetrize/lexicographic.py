"""The fixed order of `canonical`: the lexicographically largest point of each orbit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equirl.actions import GroupAction
from equirl.recording import is_recording
from equirl.symmetrize.weightings import (
    PRECISE,
    lexicographic_weights,
)

HEADS = (256, 4096, 32768)
"""Two large integer points, such as images, mostly differ early on: so many entries of each are
compared before all of them are."""


FEW = 4
"""So many entries of vectors are compared one by one before all of them are at once."""


def largest_points(x: Any, action: GroupAction) -> Tensor:
    """`lexicographic_weights` of the orbit of x, looking at no more of it than is needed.

    Args:
        x: ``[batch, *shape]``, or a dict of such tensors.
        action: how the group moves them.

    Returns:
        ``[|G|, batch]``.
    """
    # A graph cannot look at numbers, and a GPU had better not wait for answers.
    if not isinstance(x, Tensor) or x.device.type != "cpu" or is_recording():
        return lexicographic_weights(action.orbit(x), action.rounds)
    if x.is_floating_point() and action.rounds:
        return lexicographic_weights(action.orbit(x), rounds=True)
    if x.is_floating_point():
        return _largest_vectors(action.orbit(x), action.first_moved)
    return _largest_images(x, action)


def _largest_vectors(orbit: Tensor, first_moved: int | None) -> Tensor:
    """Looks at a few entries, which nearly always decide; unmoved ones before them never can."""
    if first_moved is None or orbit.dtype not in PRECISE:
        return lexicographic_weights(orbit, rounds=False)
    leading = None
    for entry in orbit.flatten(2)[:, :, first_moved : first_moved + FEW].unbind(dim=2):
        if leading is None:
            leading = entry >= entry.amax(dim=0)
        else:
            best = entry.masked_fill(~leading, -torch.inf).amax(dim=0)
            leading &= entry >= best
        undecided = leading.sum(dim=0) != 1  # more than one, or none of numbers that are none
        if not undecided.any():
            return leading.to(orbit.dtype)
    assert leading is not None
    weights = leading.to(orbit.dtype)
    weights[:, undecided] = lexicographic_weights(orbit[:, undecided], rounds=False)
    return weights


def _largest_images(x: Tensor, action: GroupAction) -> Tensor:
    """Compares heads first, of those that are still equal longer and longer ones."""
    weights = torch.empty(action.group.order, len(x), dtype=torch.get_default_dtype())
    undecided = torch.arange(len(x))
    for entries in HEADS:
        head = action.orbit_head(x[undecided], entries)
        if head is None:
            break
        shares = lexicographic_weights(head, rounds=False)
        weights[:, undecided] = shares
        undecided = undecided[shares.amax(dim=0) < 1]  # one alone is the largest
        if len(undecided) == 0:
            return weights
    weights[:, undecided] = lexicographic_weights(action.orbit(x[undecided]), rounds=False)
    return weights
