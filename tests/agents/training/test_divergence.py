"""A training that diverges says so in one line, whatever the algorithm."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from equirl.agents import EquivariantDQN, EquivariantPPO, EquivariantTD3
from equirl.envs import symmetry_of
from equirl.errors import RunError


class RewardedByNaN(gym.Wrapper[Any, Any, Any, Any]):
    """Every reward is NaN."""

    def step(self, action: Any) -> Any:
        observation, _, *others = self.env.step(action)
        return observation, float("nan"), *others


@pytest.mark.parametrize(
    ("algorithm", "env_id", "options"),
    [  # PPO draws from a distribution, which would complain; the others would go on
        (EquivariantPPO, "CartPole-v1", {"n_steps": 32, "batch_size": 32}),
        (EquivariantDQN, "CartPole-v1", {"learning_starts": 10, "buffer_size": 50}),
        (EquivariantTD3, "Pendulum-v1", {"learning_starts": 10, "buffer_size": 50}),
    ],
)
def test_rewards_that_are_nan_end_the_training_in_one_line(
    algorithm: Any, env_id: str, options: dict[str, Any]
) -> None:
    env = gym.make(env_id)
    model = algorithm(
        "MlpPolicy",
        RewardedByNaN(env),
        symmetry=symmetry_of(env),
        policy_kwargs={"net_arch": [8]},
        device="cpu",
        **options,
    )
    with pytest.raises(RunError, match=r"^training diverged: .* is not finite after"):
        model.learn(64)
