"""Replay buffers that move each sampled transition by a random group element."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import (
    BaseBuffer,
    DictReplayBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents.policy_spaces import for_policy
from equirl.agents.vec_normalize import SymmetricVecNormalize
from equirl.envs import Declaration, declared_symmetry, symmetry_by_id
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry


class OrbitReplayBuffer(ReplayBuffer):
    """Data augmentation: (s, a, r, s') is replayed as (gs, ga, r, gs') with a fresh random g.

    For plain agents, as SB3's ``replay_buffer_class``; transitions are stored as they came. Behind
    `VecNormalize` that is before normalisation, and so they are moved before it.

    Args:
        args: as `ReplayBuffer` takes them.
        symmetry: the symmetry of the environment, of what a `VecNormalize` gets; or generators for
            the buffer's own spaces (of images, those whose channels SB3 has put first); or the id
            of an environment whose symmetry is known.
        kwargs: as `ReplayBuffer` takes them.

    Raises:
        SymmetryError: it does not fit the observations or the actions; or, when sampling, it is not
            the one under which a `SymmetricVecNormalize` is invariant.

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

    def __init__(self, *args: Any, symmetry: Symmetry | Declaration | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.symmetry = symmetry_of_buffer(self, symmetry)

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        _check(self.symmetry, env)
        samples = super()._get_samples(batch_inds, env)
        samples = samples._replace(**_moved(samples, self.symmetry))
        return samples if env is None else samples._replace(**_normalized(samples, env))

    @staticmethod
    def _normalize_obs(obs: Any, env: VecNormalize | None = None) -> Any:
        return obs  # they are moved before


# SB3 has another class for samples of dicts than ReplayBufferSamples.
# In SB3 the observations of the one are an array, of the other a dict.
class OrbitDictReplayBuffer(OrbitReplayBuffer, DictReplayBuffer):  # type: ignore[misc]
    """`OrbitReplayBuffer` for dict observations."""


class OrbitNStepReplayBuffer(OrbitReplayBuffer, NStepReplayBuffer):
    """`OrbitReplayBuffer` with returns of ``n_steps`` steps, discounted by ``gamma``.

    Both in ``replay_buffer_kwargs``: of its own ``n_steps`` SB3 tells no buffer but its own.
    """


def symmetry_of_buffer(buffer: BaseBuffer, symmetry: Symmetry | Declaration | str) -> Symmetry:
    """What a buffer was given as its symmetry, on points as it holds them.

    Raises:
        SymmetryError: it does not fit the observations or the actions.
    """
    if isinstance(symmetry, str):
        symmetry = symmetry_by_id(symmetry, buffer.observation_space, buffer.action_space)
    given = declared_symmetry(symmetry, buffer.observation_space, buffer.action_space)
    if given.action_space != buffer.action_space:
        kind = "rollout" if isinstance(buffer, RolloutBuffer) else "replay"
        raise SymmetryError(
            f"the symmetry moves {given.action_space}, the {kind} buffer holds "
            f"{buffer.action_space}: give it the symmetry of this environment"
        )
    return for_policy(given, buffer.observation_space)


def _moved(
    samples: ReplayBufferSamples | DictReplayBufferSamples, symmetry: Symmetry
) -> dict[str, Any]:
    if symmetry.group.order == 1:
        return {}
    # From the global state (NPY002): SB3 seeds it, and its buffers draw from it.
    g = np.random.randint(symmetry.group.order, size=len(samples.actions))  # noqa: NPY002
    return {
        "observations": symmetry.transform_observation(g, samples.observations),
        "next_observations": symmetry.transform_observation(g, samples.next_observations),
        "actions": _moved_actions(g, samples.actions, symmetry),
    }


def _moved_actions(g: np.ndarray, actions: torch.Tensor, symmetry: Symmetry) -> torch.Tensor:
    """``[batch, actions]``, flat; those of a Box are rescaled to -1 … 1 before they are stored."""
    if isinstance(symmetry.action_space, spaces.Box):
        scaled: torch.Tensor = symmetry.scaled_actions.transform(g, actions)
        return scaled
    shaped = actions.reshape(len(actions), *(symmetry.action_space.shape or (1,)))
    moved: torch.Tensor = symmetry.transform_action(g, shaped)
    return moved.reshape(actions.shape).to(actions.dtype)


def _check(symmetry: Symmetry, env: VecNormalize | None) -> None:
    if not isinstance(env, SymmetricVecNormalize) or not env.norm_obs:
        return
    if symmetry is not env.symmetry and symmetry != env.symmetry:
        raise SymmetryError(
            f"the replay buffer moves observations before they are normalised, with {symmetry}, "
            f"but SymmetricVecNormalize gets them with {env.symmetry}: give the buffer that one"
        )


def _normalized(
    samples: ReplayBufferSamples | DictReplayBufferSamples, env: VecNormalize
) -> dict[str, Any]:
    def observations(moved: Any) -> Any:
        device = samples.rewards.device
        if isinstance(moved, dict):
            arrays: Any = env.normalize_obs(
                {key: part.cpu().numpy() for key, part in moved.items()}
            )
            return {key: torch.as_tensor(array, device=device) for key, array in arrays.items()}
        return torch.as_tensor(env.normalize_obs(moved.cpu().numpy()), device=device)

    return {
        "observations": observations(samples.observations),
        "next_observations": observations(samples.next_observations),
    }
