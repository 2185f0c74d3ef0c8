"""From the symmetry of an environment to that of what SB3 hands to a policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.actions import GroupAction, Leaf
from equirl.envs.transposed_images import with_channels_first
from equirl.errors import SymmetryError
from equirl.shown import shown
from equirl.symmetry import Symmetry


class BufferedAction(GroupAction):
    """`GroupAction` on points as SB3's buffers hold them: a Discrete one as ``[batch, 1]``."""

    def _fits(self, shape: tuple[int, ...], leaf: Leaf) -> bool:
        return super()._fits(shape, leaf) or (leaf.shape == () and shape == (1,))


def for_policy(symmetry: Symmetry, observation_space: spaces.Space[Any]) -> Symmetry:
    """The same symmetry for a policy or a replay buffer of SB3.

    Args:
        symmetry: of the observations as the environment gives them.
        observation_space: what the policy sees; SB3 may have put channels first.

    Raises:
        SymmetryError: SB3 has no encoding of one of the spaces, or the symmetry was declared for
            other observations.
    """
    check_policy_spaces(observation_space, symmetry.action_space)
    carried = with_channels_first(symmetry, observation_space)
    return Symmetry(
        carried.group,
        carried.observation_space,
        carried.action_space,
        _buffered(carried.observations),
        _buffered(carried.actions),
    )


def _buffered(action: GroupAction) -> GroupAction:
    scalar = any(leaf.shape == () for leaf in action.leaves)
    if not scalar:
        return action
    return BufferedAction(action.group, action.leaves, action.blocks, action.maps)


def check_policy_spaces(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> None:
    """Refuse what SB3 accepts and fails on in the middle of training.

    Raises:
        SymmetryError: entries that do not count from 0, or are not in one row; with the remedy.
    """
    parts: Any = {None: observation_space}
    if isinstance(observation_space, spaces.Dict):
        parts = observation_space.spaces
    for key, part in parts.items():
        where = "observations" if key is None else f"observations[{key!r}]"
        _check(where, part, "TransformObservation(env, f, {space}), where f takes {what} off")
    remedy = "TransformAction(env, f, {space}), where f puts {what} on"
    if isinstance(action_space, spaces.MultiBinary) and not isinstance(action_space.n, int):
        flat = spaces.MultiBinary(int(np.prod(action_space.n)))
        _refuse("actions", action_space, remedy, flat, "the shape")
    _check("actions", action_space, remedy)


def _check(where: str, space: spaces.Space[Any], remedy: str) -> None:
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim > 1:
        _refuse(where, space, remedy, spaces.MultiDiscrete(space.nvec.ravel()), "the shape")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and np.any(space.start):
        sizes: Any = space.n if isinstance(space, spaces.Discrete) else space.nvec
        _refuse(where, space, remedy, type(space)(sizes), f"the start {space.start}")


def _refuse(
    where: str, space: spaces.Space[Any], remedy: str, right: spaces.Space[Any], what: str
) -> None:
    there = remedy.format(space=right, what=what)
    raise SymmetryError(
        f"{where} in {shown(space)} are not what SB3's policies can encode: use "
        f"gymnasium.wrappers.{there}"
    )
