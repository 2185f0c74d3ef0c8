"""Evaluation: an episode depends on the agent and its seed alone, however many run beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from equirl.agents import EquivariantDQN
from equirl.agents.training import evaluation
from equirl.agents.training.evaluation import Episodes, half_width, play_episodes
from equirl.agents.training.normalised_play import _Normalised
from equirl.envs import TransformWrapper
from shared.small_agents import cartpole

SMALL: dict[str, Any] = {"buffer_size": 10, "seed": 0, "device": "cpu"}
MakeEnv = Callable[[], gym.Env[Any, Any]]


def gridworld() -> gym.Env[Any, Any]:
    return gym.make("equirl/GridWorld-v0", size=4, max_episode_steps=12)


class Flags(gym.Env[Any, np.int64]):
    """Dict observations; the episode ends after as many steps as the seed says."""

    observation_space = spaces.Dict(flags=spaces.MultiBinary(3), place=spaces.Discrete(4))
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.left = self.seed = seed
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        over = self.left == 0
        info = {"is_success": self.seed % 2 == 0} if over else {}
        return self.observation_space.sample(), float(self.seed), over, False, info

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def agent() -> DQN:
    # Episodes from 10 to 60 steps: a good agent would only make them equal.
    return EquivariantDQN("MlpPolicy", "CartPole-v1", "equizero", **SMALL)


@pytest.mark.parametrize("parallel", [1, 3, 10])
def test_returns_do_not_depend_on_how_many_run_at_once(
    parallel: int, agent: DQN, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = range(10)
    expected = play_episodes(agent, cartpole, seeds)
    monkeypatch.setattr(evaluation, "MAX_PARALLEL", parallel)
    actual = play_episodes(agent, cartpole, seeds)
    np.testing.assert_array_equal(actual.returns, expected.returns)
    np.testing.assert_array_equal(actual.lengths, expected.lengths)
    assert len(set(expected.returns)) > 3


def test_returns_follow_their_seeds(agent: DQN) -> None:
    seeds = [5, 3, 5, 11]
    returns = play_episodes(agent, cartpole, seeds).returns
    assert returns[0] == returns[2]
    for seed, expected in zip(seeds, returns, strict=True):
        assert play_episodes(agent, cartpole, [seed]).returns == [expected]


@pytest.mark.parametrize("make_env", [cartpole, gridworld])
def test_returns_are_those_of_sb3(make_env: MakeEnv) -> None:
    model = EquivariantDQN("MlpPolicy", make_env(), **SMALL)
    seeds = range(100, 106)
    episodes = play_episodes(model, make_env, seeds)
    for i, seed in enumerate(seeds):
        envs = DummyVecEnv([lambda: Monitor(make_env())])
        envs.seed(seed)
        returns, lengths = evaluate_policy(
            model, envs, n_eval_episodes=1, return_episode_rewards=True
        )
        assert episodes.returns[i] == pytest.approx(returns[0], abs=1e-6)
        assert episodes.lengths[i] == lengths[0]


@pytest.mark.parametrize("parallel", [1, 2, 64])
def test_every_episode_is_accounted_for(parallel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MAX_PARALLEL", parallel)
    model = DQN("MultiInputPolicy", Flags(), **SMALL)
    seeds = [3, 1, 4, 1, 5, 9, 2, 6]
    made: list[Flags] = []
    finished: list[int] = []

    def make_env() -> Flags:
        made.append(Flags())
        return made[-1]

    episodes = play_episodes(model, make_env, seeds, lambda: finished.append(1))
    assert episodes.returns.tolist() == [seed**2 for seed in seeds]
    assert episodes.lengths.tolist() == seeds
    assert episodes.successes is not None
    assert episodes.successes.tolist() == [seed % 2 == 0 for seed in seeds]
    assert len(finished) == len(seeds)
    assert len(made) == min(parallel, len(seeds))
    assert all(env.closed for env in made)


def test_successes_are_known_where_the_environment_says_so(agent: DQN) -> None:
    assert play_episodes(agent, cartpole, range(2)).successes is None
    model = EquivariantDQN("MlpPolicy", gridworld(), **SMALL)
    episodes = play_episodes(model, gridworld, range(20))
    assert episodes.successes is not None
    np.testing.assert_array_equal(episodes.successes, episodes.returns > 0)
    assert 0 < episodes.successes.sum() < 20


def test_environments_are_closed_when_one_breaks() -> None:
    made: list[Flags] = []

    class Broken(Flags):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            if self.seed == 3:
                raise ArithmeticError("broken")
            return super().step(action)

    def make_env() -> Flags:
        made.append(Broken())
        return made[-1]

    with pytest.raises(ArithmeticError, match="broken"):
        play_episodes(DQN("MultiInputPolicy", Flags(), **SMALL), make_env, [9, 1, 3])
    assert len(made) == 3
    assert all(env.closed for env in made)


@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero", "canonical"])
def test_an_equivariant_agent_scores_the_same_through_every_element(method: str) -> None:
    model = EquivariantDQN("MlpPolicy", gridworld(), method, **SMALL)
    expected = play_episodes(model, gridworld, range(3))
    for g in range(8):

        def seen_through(g: int = g) -> gym.Env[Any, Any]:
            return TransformWrapper(gridworld(), g, model.symmetry)

        episodes = play_episodes(model, seen_through, range(3))
        np.testing.assert_array_equal(episodes.returns, expected.returns)


def test_half_width_is_that_of_the_normal_approximation() -> None:
    # The standard deviation of 1, 2, 3, 4 is the root of 5/3.
    expected = 1.96 * np.sqrt(5 / 3) / 2
    assert half_width(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(expected)
    assert half_width(np.array([1.0])) == np.inf


def test_episodes_are_summed_up_in_a_line() -> None:
    episodes = Episodes(
        np.array([10.0, 20.0]), np.array([1, 2], dtype=np.int64), np.array([True, False])
    )
    assert episodes.mean == 15
    assert str(episodes) == "15.0 ± 9.8 over 2 episodes, 50% successful"


def test_an_agent_behind_statistics_is_told_which_actions_are_allowed() -> None:
    class Masked(Flags):
        action_space = spaces.Discrete(3)
        played: ClassVar[list[int]] = []

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.played.append(int(action))
            return super().step(action)

        def action_masks(self) -> Any:
            return np.array([False, True, False])

    model = MaskablePPO("MultiInputPolicy", Masked(), n_steps=8, batch_size=8, device="cpu")
    with torch.no_grad():
        cast(Any, model.policy).action_net.bias[0] += 9
    play_episodes(_Normalised(model, lambda observation: observation), Masked, range(1, 4))
    assert set(Masked.played) == {1}
