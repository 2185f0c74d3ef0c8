"""A target return ends the training only when fresh episodes reach it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN

from equirl.agents.training.evaluation_callback import FEWEST_CONFIRMING, EvaluationCallback

EVALUATED, CONFIRMING = range(100, 102), 5000
UNLUCKY_ONCE = range(CONFIRMING, CONFIRMING + 1)


class ReturnBySeed(gym.Env[Any, Any]):
    """An episode of one step; its return depends on its seed alone: 0 in ``unlucky``, else 1."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, unlucky: range, played: list[int]) -> None:
        self.unlucky, self.played, self.seed = unlucky, played, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seed = -1 if seed is None else seed
        self.played.append(self.seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), float(self.seed not in self.unlucky), True, False, {}


class Trained(NamedTuple):
    """A training that went on for so long, and the seeds of the fresh episodes it played."""

    steps: int
    callback: EvaluationCallback
    fresh: list[int]


def trained(folder: Path, unlucky: range, steps: int = 100, after: Any = None) -> Trained:
    played: list[int] = []
    callback = EvaluationCallback(
        lambda: ReturnBySeed(unlucky, played),
        folder,
        every=20,
        seeds=EVALUATED,
        target_return=1,
        confirmation_seed=CONFIRMING,
    )
    model = DQN("MlpPolicy", ReturnBySeed(unlucky, []), policy_kwargs={"net_arch": [4]})
    if after is not None:
        callback.restore(after.callback.state())
        model.num_timesteps = after.steps
    model.learn(steps, callback=callback, reset_num_timesteps=after is None)
    return Trained(model.num_timesteps, callback, [s for s in played if s not in EVALUATED])


def test_a_lucky_evaluation_does_not_end_the_training(tmp_path: Path) -> None:
    run = trained(tmp_path, UNLUCKY_ONCE)
    assert run.steps == 40  # confirmed after the second evaluation, by other episodes
    assert [evaluation.step for evaluation in run.callback.history] == [20, 40]
    assert run.fresh == list(range(CONFIRMING, CONFIRMING + 2 * FEWEST_CONFIRMING))
    # The best model is the one that was confirmed, not the lucky one.
    assert DQN.load(run.callback.best_path, device="cpu").num_timesteps == 40


@pytest.mark.parametrize(("unlucky", "steps"), [(range(0), 20), (range(CONFIRMING, 10**6), 100)])
def test_training_ends_at_once_when_confirmed_and_never_when_it_is_not(
    tmp_path: Path, unlucky: range, steps: int
) -> None:
    assert trained(tmp_path, unlucky).steps == steps


def test_a_resumed_training_is_confirmed_by_the_same_episodes(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", UNLUCKY_ONCE)
    before = trained(tmp_path / "before", UNLUCKY_ONCE, steps=32)
    after = trained(tmp_path / "after", UNLUCKY_ONCE, steps=68, after=before)
    assert (before.steps, after.steps) == (32, whole.steps)
    assert before.fresh + after.fresh == whole.fresh
