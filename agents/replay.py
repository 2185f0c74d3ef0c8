"""Replay buffers that move each sampled transition by a random group element."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from equirl.symmetry import Symmetry


class OrbitReplayBuffer(ReplayBuffer):
    """Data augmentation: (s, a, r, s') is replayed as (gs, ga, r, gs') with a fresh random g.

    For plain DQN, as SB3's ``replay_buffer_class``; transitions are stored as they came.

    Args:
        args: as `ReplayBuffer` takes them.
        symmetry: the symmetry of the environment.
        kwargs: as `ReplayBuffer` takes them.

    Example:
        >>> from stable_baselines3 import DQN
        >>> from equirl.envs import SymmetryWrapper
        >>> import gymnasium as gym
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> model = DQN(
        ...     "MlpPolicy", env, buffer_size=1000, replay_buffer_class=OrbitReplayBuffer,
        ...     replay_buffer_kwargs=dict(symmetry=env.symmetry),
        ... )
    """

    def __init__(self, *args: Any, symmetry: Symmetry, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.symmetry = symmetry.carried_to(self.observation_space)

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(**_moved(samples, self.symmetry))


class OrbitDictReplayBuffer(DictReplayBuffer):
    """`OrbitReplayBuffer` for dict observations."""

    def __init__(self, *args: Any, symmetry: Symmetry, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.symmetry = symmetry.carried_to(self.observation_space)

    def _get_samples(  # type: ignore[override]
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> DictReplayBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(**_moved(samples, self.symmetry))


def _moved(
    samples: ReplayBufferSamples | DictReplayBufferSamples, symmetry: Symmetry
) -> dict[str, Any]:
    if symmetry.group.order == 1:
        return {}
    # From the global state, which SB3 seeds and from which its buffers draw as well.
    g = np.random.randint(symmetry.group.order, size=len(samples.actions))  # noqa: NPY002
    return {
        "observations": symmetry.transform_observation(g, samples.observations),
        "next_observations": symmetry.transform_observation(g, samples.next_observations),
        "actions": symmetry.transform_action(g, samples.actions),
    }
