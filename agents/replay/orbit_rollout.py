"""Rollout buffers that move each sample of a minibatch by a random group element."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents.replay.orbit_replay import symmetry_of_buffer
from equirl.envs import Declaration
from equirl.symmetry import Symmetry


class OrbitRolloutBuffer(RolloutBuffer):
    """Data augmentation on-policy: each sample (s, a) of a minibatch becomes (gs, ga), g random.

    For plain agents, as the ``rollout_buffer_class`` of PPO and A2C. The advantage and the return
    are invariant. The old value and log-probability stay those of s and a, with which the action
    was drawn: in the ratio π(ga | gs) / π_old(a | s) the policy is drawn towards its own symmetric
    image, as in rsl_rl's augmentation (Mittal et al. 2024, arXiv 2403.04359). It is 1 for a policy
    that is equivariant already. What PPO logs as ``approx_kl`` and ``clip_fraction`` counts that
    asymmetry too: do not give it a ``target_kl``, at which it would end before the first step.

    The environments are not normalised, or by `SymmetricVecNormalize`, since it is normalised
    observations that are moved; and actions are not squashed (``squash_output``), unless the
    symmetry adds no constant to them.

    Args:
        args: as `RolloutBuffer` takes them.
        symmetry: the symmetry of the observations as the policy sees them (`symmetry_of` the
            vectorized environments); or generators for the buffer's own spaces; or the id of an
            environment whose symmetry is known.
        kwargs: as `RolloutBuffer` takes them.

    Raises:
        SymmetryError: it does not fit the observations or the actions.

    Example:
        >>> from stable_baselines3 import PPO
        >>> from equirl.envs import SymmetryWrapper
        >>> import gymnasium as gym
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> model = PPO(
        ...     "MlpPolicy", env, rollout_buffer_class=OrbitRolloutBuffer, device="cpu",
        ...     rollout_buffer_kwargs=dict(symmetry=env.symmetry),
        ... )
    """

    def __init__(self, *args: Any, symmetry: Symmetry | Declaration | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.symmetry = symmetry_of_buffer(self, symmetry)

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> RolloutBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        if self.symmetry.group.order == 1:
            return samples
        # From the global state (NPY002), which SB3 seeds and from which its buffers draw as well.
        g = np.random.randint(self.symmetry.group.order, size=len(samples.actions))  # noqa: NPY002
        return samples._replace(
            observations=self.symmetry.transform_observation(g, samples.observations),
            actions=self._moved_actions(g, samples.actions),
        )

    def _moved_actions(self, g: np.ndarray, actions: torch.Tensor) -> torch.Tensor:
        """``[batch, entries]``, flat; those of a Box as they were drawn, before clipping."""
        moved: torch.Tensor
        if isinstance(self.symmetry.action_space, spaces.Box):
            moved = self.symmetry.action_means.transform(g, actions)
            return moved
        shape = self.symmetry.action_space.shape or (1,)
        moved = self.symmetry.transform_action(g, actions.reshape(len(actions), *shape))
        return moved.reshape(actions.shape).to(actions.dtype)


# In SB3 the samples of dicts are no RolloutBufferSamples.
# In SB3 the observations of the one are an array, of the other a dict.
class OrbitDictRolloutBuffer(OrbitRolloutBuffer, DictRolloutBuffer):  # type: ignore[misc]
    """`OrbitRolloutBuffer` for dict observations."""
