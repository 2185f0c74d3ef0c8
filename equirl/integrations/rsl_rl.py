"""`data_augmentation`: a `Symmetry` as rsl_rl's ``symmetry_cfg`` takes it.

rsl_rl trains policies of legged robots on many simulated copies. Its PPO appends the images of a
mini-batch to it (``use_data_augmentation``), or adds the distance between the policy's action at gs
and its action at s, moved (``use_mirror_loss``; Mittal et al. 2024, arXiv 2403.04359).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces

from equirl.actions import GroupAction
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry


class DataAugmentation:
    """The callback: called as ``function(env=…, obs=…, actions=…)``, it returns both augmented.

    See `data_augmentation`.
    """

    def __init__(self, symmetry: Symmetry, observations: Mapping[str, GroupAction]) -> None:
        self.symmetry = symmetry
        self.observations = dict(observations)

    def __call__(
        self, env: Any = None, obs: Any = None, actions: torch.Tensor | None = None, **_: Any
    ) -> tuple[Any, torch.Tensor | None]:
        """Of a batch of B, batches of |G| · B: the batch itself, then its image under each g.

        Args:
            env: not needed; rsl_rl passes it.
            obs: ``[B, …]``, or a ``TensorDict`` of these by observation group; or None.
            actions: ``[B, actions]``, or None.

        Raises:
            SymmetryError: an observation group was not declared.
        """
        moved = None if actions is None else self._orbit(self.symmetry.actions, actions)
        if obs is None:
            return None, moved
        if isinstance(obs, torch.Tensor):
            return self._orbit(self.symmetry.observations, obs), moved
        unknown = sorted(str(key) for key in obs.keys() if key not in self.observations)  # noqa: SIM118
        if unknown:
            raise SymmetryError(
                f"the observation groups {', '.join(unknown)} were not declared: give "
                "data_augmentation(symmetry, observations={group: action}), of privileged "
                "observations their own action"
            )
        augmented: Any = torch.cat([obs] * self.symmetry.group.order)
        for key, action in self.observations.items():
            if key in obs.keys():  # noqa: SIM118  # a TensorDict iterates over its rows
                augmented[key] = self._orbit(action, obs[key])
        return augmented, moved

    @staticmethod
    def _orbit(action: GroupAction, points: torch.Tensor) -> torch.Tensor:
        """``[B, …] -> [|G| · B, …]``, identity first."""
        orbit: torch.Tensor = action.orbit(points)
        return orbit.flatten(0, 1)


def data_augmentation(
    symmetry: Symmetry, observations: Mapping[str, GroupAction] | None = None
) -> DataAugmentation:
    """The callback that rsl_rl's ``symmetry_cfg`` takes as ``data_augmentation_func``.

    Args:
        symmetry: of the policy's observations and the actions.
        observations: by observation group of the environment the action on it, such as that of the
            critic's; None for ``{"policy": symmetry.observations}``.

    Raises:
        SymmetryError: the actions are not continuous, or an action is of another group.

    Example:
        >>> from gymnasium import spaces
        >>> boxes = spaces.Box(-9, 9, (2,)), spaces.Box(-1, 1, (1,))
        >>> symmetry = Symmetry.from_generators(*boxes, {"mirror": ([1, -1], [-1])})
        >>> augment = data_augmentation(symmetry)
        >>> symmetry_cfg = {"data_augmentation_func": augment, "use_data_augmentation": True}
        >>> augment(env=None, obs=torch.tensor([[1.0, 2.0]]), actions=torch.tensor([[0.5]]))
        (tensor([[ 1.,  2.],
                [ 1., -2.]]), tensor([[ 0.5000],
                [-0.5000]]))
    """
    given = {"policy": symmetry.observations} if observations is None else observations
    for key, action in given.items():
        if action.group != symmetry.group:
            raise SymmetryError(f"the action on {key!r} is of another group than the symmetry")
    if not isinstance(symmetry.action_space, spaces.Box):
        raise SymmetryError(f"rsl_rl has continuous actions, got {symmetry.action_space}")
    return DataAugmentation(symmetry, given)
