"""`MirrorLoss`: what the plain agents with a penalty on their asymmetry share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from equirl.agents.policy_spaces import for_policy
from equirl.agents.vec_normalize import check_normalization
from equirl.envs import Declaration, symmetry_of
from equirl.saved_symmetry import from_json, to_json
from equirl.symmetry import Symmetry

MIRROR_WEIGHT = 1.0


class MirrorLoss(BaseAlgorithm):
    """An algorithm with stock networks, whose loss has a term c · (the asymmetry of its networks).

    The mirror loss of Yu, Turk & Liu 2018 (arXiv 1801.08093) and Abdolhosseini et al. 2019 (Motion,
    Interaction and Games): each state s of a minibatch is compared with one gs, g ≠ e random. The
    symmetry is learned, and so approximate. With the trivial group, or c = 0, training is that of
    the SB3 class, bit for bit.

    Stands before the SB3 class. A saved agent is a plain one: SB3's own class reads it, equirl or
    not.

    Args:
        policy: as the SB3 class takes it.
        env: the environment, or its id.
        symmetry: a `Symmetry` or generators; None finds the environment's own (`symmetry_of`).
        mirror_weight: c.
        kwargs: everything else that the SB3 class takes, which checks the names.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.
    """

    symmetry: Symmetry
    """On the observations that the policy sees."""

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str,
        *,
        symmetry: Symmetry | Declaration | None = None,
        mirror_weight: float = MIRROR_WEIGHT,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"_init_setup_model": False, **kwargs}
        super().__init__(policy, env, **arguments)
        self.mirror_weight = mirror_weight
        if not _init_setup_model:  # being loaded: mirror_symmetry follows
            return
        assert self.env is not None
        self.mirror_symmetry = to_json(symmetry_of(self.env, symmetry))
        self._setup_model()

    def _setup_model(self) -> None:
        symmetry = from_json(self.mirror_symmetry)
        check_normalization(self.env, symmetry)
        parent: Any = super()  # SB3's own method is abstract in the base class only
        parent._setup_model()
        self.symmetry = for_policy(symmetry, self.observation_space)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """See `BaseAlgorithm`.

        Raises:
            SymmetryError: the environment normalises observations by plain `VecNormalize`.
        """
        check_normalization(env, from_json(self.mirror_symmetry))
        super().set_env(env, force_reset)

    def _excluded_save_params(self) -> list[str]:
        # Its pickle would need equirl; mirror_symmetry says the same in plain data.
        return [*super()._excluded_save_params(), "symmetry"]

    @property
    def mirrors(self) -> bool:
        """Whether there is an asymmetry to penalise."""
        return self.mirror_weight > 0 and self.symmetry.group.order > 1

    def moved(self, observations: Any, count: int) -> tuple[Tensor, Any]:
        """For each of ``count`` states s a random g ≠ e, ``[count]``, and gs."""
        # From the global state (NPY002), which SB3 seeds and from which its buffers draw as well.
        elements = np.random.randint(1, self.symmetry.group.order, size=count)  # noqa: NPY002
        g = torch.from_numpy(elements).to(self.device)
        return g, self.symmetry.observations.move_each(g, observations)
