"""The symmetry of images whose channels SB3 has put first."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from equirl.actions import leaves_of
from equirl.symmetry import Symmetry


def with_channels_first(symmetry: Symmetry, observation_space: spaces.Space[Any]) -> Symmetry:
    """The same symmetry for observations that `VecTransposeImage` may have transposed.

    Args:
        symmetry: of the observations as the environment gives them.
        observation_space: the symmetry's own, or the same with images ``[H, W, C]`` turned into
            ``[C, H, W]``.

    Raises:
        SymmetryError: the spaces differ in any other way, such as stacked frames.
    """
    shapes = {leaf.key: leaf.shape for leaf in leaves_of(observation_space)}
    axes = {
        leaf.key: (2, 0, 1)
        for leaf in symmetry.observations.leaves
        if len(leaf.shape) == 3 and shapes.get(leaf.key, leaf.shape) != leaf.shape
    }
    return symmetry.carried_to(observation_space, axes)
