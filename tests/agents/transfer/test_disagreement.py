"""What is measured on an agent's own play, before anything is made equivariant."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN

from equirl.agents import transfer_agent
from equirl.agents.transfer.beforehand import OWN_STEPS, own_seed
from equirl.agents.transfer.branch_table import play_transitions
from equirl.agents.transfer.disagreement import _distributions, _of_logits
from equirl.errors import AgentError
from shared.rarely import rarely


class Walk(gym.Env[Any, Any]):
    """Left or right on a line; one array is written over. Actions 2 and 3 are not allowed."""

    observation_space = spaces.Box(-10, 10, (2,))
    action_space = spaces.Discrete(4)

    def __init__(self, is_strict: bool = False) -> None:
        self.seen, self.is_strict = np.zeros(2, np.float32), is_strict

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seen[:] = self.np_random.uniform(-1, 1), 0
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action < 2 or not self.is_strict
        self.seen += (-0.3 if action % 2 == 0 else 0.3), 1
        return self.seen, -float(abs(self.seen[0])), False, bool(self.seen[1] >= 5), {}


class Masked(Walk):
    def action_masks(self) -> np.ndarray:
        return np.array([True, True, False, False])


@pytest.mark.parametrize(
    ("space", "one", "other", "distance"),
    [
        (spaces.Discrete(2), [0.0, 0.0], [9e9, 0.0], 0.5),
        (spaces.MultiBinary(1), [0.0], [math.log(3)], 0.25),
        (spaces.MultiBinary(2), [0.0, 5.0], [math.log(3), 5.0], 0.25),
        (spaces.MultiBinary(1), [0.0, 0.0], [0.0, math.log(3)], 0.25),  # as where bits are masked
        (spaces.MultiDiscrete([2, 3]), [0.0, 0.0, 7.0, 7.0, 7.0], [4.0, 4.0, 1.0, 1.0, 1.0], 0.0),
        (spaces.MultiDiscrete([2, 2]), [0.0] * 4, [9e9, 0.0, 9e9, 0.0], 0.75),
    ],
)
def test_policies_of_several_parts_are_compared_part_by_part(
    space: Any, one: list[float], other: list[float], distance: float
) -> None:
    a, b = torch.tensor([one]), torch.tensor([other])
    found = _of_logits(a, b, _distributions(space, len(one)))
    torch.testing.assert_close(found, torch.tensor([distance]))


def test_an_observation_that_is_written_over_is_kept_as_it_was() -> None:
    model = DQN("MlpPolicy", Walk(), buffer_size=1, device="cpu")
    played = play_transitions([model], Walk, 12, 0.0, 0)
    heights = [float(observation[1]) for observation in played.observations]
    assert heights == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert all(
        following[1] == now[1] + 1
        for now, following in zip(played.observations, played.next_observations, strict=True)
    )


def test_an_agent_that_takes_masks_never_plays_what_they_forbid() -> None:
    model = MaskablePPO("MlpPolicy", Masked(), n_steps=8, batch_size=8, device="cpu")
    played = play_transitions([model], lambda: Masked(is_strict=True), 60, 1.0, 0)
    assert max(played.actions) < 2
    plain = DQN("MlpPolicy", Masked(), buffer_size=1, device="cpu")
    assert max(play_transitions([plain], Masked, 60, 1.0, 0).actions) > 1


@pytest.mark.parametrize("seed", [0, 5, OWN_STEPS - 1, OWN_STEPS, 1_000_000])
def test_its_own_play_is_never_that_of_the_evaluation(seed: int) -> None:
    first = own_seed(seed, 200)
    assert first >= 0
    assert set(range(first, first + OWN_STEPS)).isdisjoint(range(seed, seed + 200))


@pytest.mark.parametrize("seed", rarely([2_999_900, 3_000_000, 3_999_999], 3_000_000))
def test_seeds_that_the_weights_are_learned_from_are_refused(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equirl.agents.transfer.beforehand.OWN_STEPS", 200)
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu")
    with pytest.raises(AgentError, match="evaluate on others"):
        transfer_agent(model, "CartPole-v1", seed=seed)
    nothing: dict[str, Any] = {"stage": "zero_shot", "methods": (), "betas": (), "episodes": 2}
    assert transfer_agent(model, "CartPole-v1", seed=seed, **nothing).chosen == "plain"
