"""Actors made equivariant by `transfer_agent`, and what is told of them before they play."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents import EquivariantMaskablePPO, from_pretrained, transfer_agent
from equirl.agents.training.evaluation import Episodes, play_episodes
from equirl.agents.transfer.branch_table import (
    acting_network,
    branch_table,
    play_transitions,
    view_orbits,
)
from equirl.agents.transfer.disagreement import disagreement
from equirl.agents.transfer.familiar import learn_familiarity
from equirl.agents.transfer.fine_tuning import EXPLORATION, fine_tune, gentle, training_env
from equirl.agents.transfer.transfer import LEARNED, PLAIN
from equirl.envs import SymmetryWrapper, TransformWrapper
from equirl.errors import AgentError
from shared.rarely import rarely
from shared.sampled import Sampled

MIRROR = {"mirror": ([1, -1, -1], [-1])}
ACTORS: dict[str, tuple[type[BaseAlgorithm], dict[str, Any]]] = {
    "ppo": (PPO, {"n_steps": 8, "batch_size": 8}),
    "sac": (SAC, {"buffer_size": 99}),
    "td3": (TD3, {"buffer_size": 99}),
}


def small() -> dict[str, Any]:
    """Arguments of small agents; SB3 adds to policy_kwargs."""
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "seed": 0}


def pendulum() -> gym.Env[Any, Any]:
    return SymmetryWrapper(gym.make("Pendulum-v1", max_episode_steps=20), MIRROR)


def always(action: float) -> PPO:
    """A PPO agent of the pendulum that means one action everywhere, with σ = 1."""
    model = PPO("MlpPolicy", pendulum(), **small())
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.fill_(action)
    return model


@pytest.mark.long
@pytest.mark.parametrize("name", rarely(ACTORS, "sac", "td3"))
def test_every_stage_has_its_versions_and_frozen_networks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equirl.agents.transfer.weight_learning.FEWEST_STEPS", 300)
    cls, kwargs = ACTORS[name]
    path, normalize = tmp_path / "agent.zip", None
    if name == "ppo":
        behind = VecNormalize(DummyVecEnv([pendulum]))
        model = cls("MlpPolicy", behind, **small(), **kwargs).learn(64)
        normalize = tmp_path / "statistics.pkl"
        behind.save(str(normalize))
    else:
        model = cls("MlpPolicy", pendulum(), **small(), **kwargs)
    model.save(path)
    result = transfer_agent(
        path,
        pendulum,
        normalize=normalize,
        stage="all",
        methods=["equitune", "familiar"],
        betas=[1],
        episodes=2,
        weight_steps=300,
        finetune_steps=32,
        finetune_every=16,
        finetune_episodes=1,
        device="cpu",
    )
    names = [PLAIN, "equitune", "familiar", "beta=1", LEARNED, "plain, trained"]
    assert list(result.played) == [*names, "equitune, trained"]
    assert result.learned is not None
    assert 300 <= result.learned.steps <= 320
    for version in names[:5]:
        state = result.models[version].policy.state_dict()
        for key, value in model.policy.state_dict().items():
            assert torch.equal(state[key], value), (version, key)
    x = pendulum().reset(seed=3)[0][None]
    for version in ("equitune", "familiar", "beta=1", LEARNED, "equitune, trained"):
        here, there = (
            result.models[version].predict(s, deterministic=True)[0] for s in (x, x * [1, -1, -1])
        )
        np.testing.assert_allclose(here, -there, atol=1e-4)
    own = result.models[PLAIN].predict(x, deterministic=True)[0]
    seen = x if normalize is None else behind.normalize_obs(x)
    np.testing.assert_allclose(own, model.predict(seen, deterministic=True)[0], atol=1e-5)


def test_bellman_errors_of_an_actor_are_those_of_its_critic_at_moved_transitions(
    tmp_path: Path,
) -> None:
    plain = SAC("MlpPolicy", pendulum(), gamma=0.9, **small(), buffer_size=9)
    model: Any = from_pretrained(plain, pendulum(), "lambda", device="cpu", buffer_size=9)
    played = play_transitions([plain], pendulum, 30, 1.0, seed=5)
    errors = branch_table(model, played, reward_scale=0.5).bellman_errors()
    for g, signs in enumerate(([1, 1, 1], [1, -1, -1])):
        now, then = (
            torch.as_tensor(np.stack(part) * signs, dtype=torch.float32)
            for part in (played.observations, played.next_observations)
        )
        sign = 1 if g == 0 else -1
        actions = torch.as_tensor(sign * np.stack(played.actions) / 2)
        with torch.no_grad():
            q = torch.cat(plain.critic(now, actions), dim=1).amin(dim=1)
            following = plain.actor(then, deterministic=True)
            v = torch.cat(plain.critic(then, following), dim=1).amin(dim=1)
        going_on = 1 - np.array(played.terminated, dtype=np.float32)
        expected = q.numpy() - 0.5 * np.array(played.rewards) - 0.9 * going_on * v.numpy()
        np.testing.assert_allclose(errors[g].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("action", [0.0, 0.5, 2.0])
def test_disagreement_of_an_agent_with_one_action_is_its_distance_from_none(action: float) -> None:
    # The branches are a and -a, and their average is 0: a standard deviations from either.
    model = from_pretrained(always(action), pendulum(), "lambda", device="cpu")
    observations = [pendulum().reset(seed=seed)[0] for seed in range(5)]
    found = disagreement(model, observations, one_sided=0.3)
    expected = math.erf(action / math.sqrt(8))
    assert found.change == pytest.approx(expected, abs=1e-6)
    assert found.away == pytest.approx(expected, abs=1e-6)
    assert (found.regret, found.one_sided) == (None, 0.3)
    assert found.risk == pytest.approx(0.3 * expected, abs=1e-6)


def test_an_agent_of_one_side_of_the_world_is_asked_there_and_stays_equivariant() -> None:
    model: Any = from_pretrained(
        always(1.0), pendulum(), "canonical", canonical_score="learned", device="cpu"
    )
    angles = np.random.default_rng(0).uniform(0.1, 3.0, 300)  # never on the left
    here = np.stack([np.cos(angles), np.sin(angles), np.zeros(300)], axis=1).astype(np.float32)
    torch.manual_seed(0)
    assert learn_familiarity(model, list(here)) > 0.8
    np.testing.assert_allclose(model.predict(here, deterministic=True)[0], 1)
    np.testing.assert_allclose(model.predict(here * [1, -1, -1], deterministic=True)[0], -1)
    weights = acting_network(model).symmetrized.weights(torch.as_tensor(here)).values
    assert weights[0].mean() == 1


def test_an_agent_of_both_sides_is_not_told_to_be_of_one() -> None:
    model: Any = from_pretrained(
        always(1.0), pendulum(), "canonical", canonical_score="learned", device="cpu"
    )
    states = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    torch.manual_seed(0)
    assert learn_familiarity(model, list(states)) < 0.1
    with pytest.raises(AgentError, match="no score to learn"):
        learn_familiarity(from_pretrained(always(1.0), pendulum(), device="cpu"), list(states))


def test_rewards_stay_normalised_as_they_were_and_gsde_is_not_trained_on(tmp_path: Path) -> None:
    from equirl.agents.saving.normalised import with_normalisation
    from equirl.agents.saving.saved_agent import read_agent

    behind = VecNormalize(DummyVecEnv([pendulum] * 2), clip_reward=5, gamma=0.9)
    A2C("MlpPolicy", behind, **small(), n_steps=8).learn(64).save(tmp_path / "a2c.zip")
    behind.save(str(tmp_path / "statistics.pkl"))
    saved = with_normalisation(read_agent(tmp_path / "a2c.zip"), tmp_path / "statistics.pkl")
    env: Any = training_env(saved, pendulum)
    assert (env.num_envs, env.norm_obs, env.clip_reward, env.gamma) == (2, False, 5, 0.9)
    assert env.ret_rms.var == behind.ret_rms.var
    SAC("MlpPolicy", pendulum(), use_sde=True, buffer_size=9, **small()).save(tmp_path / "sde.zip")
    with pytest.raises(AgentError, match="gSDE"):
        transfer_agent(tmp_path / "sde.zip", pendulum, stage="finetune")


@pytest.mark.parametrize("cls", [SAC, TD3])
def test_an_actor_fills_its_buffer_half_by_itself_and_only_then_learns(
    cls: type[BaseAlgorithm], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = cls("MlpPolicy", pendulum(), **small(), buffer_size=99, learning_starts=5)
    model: Any = from_pretrained(plain, pendulum(), device="cpu")
    nowhere = np.full(1, 2, np.float32)
    monkeypatch.setattr(model.action_space, "sample", lambda: nowhere)
    updates: list[int] = []  # before each step
    curve = fine_tune(model, pendulum, 50, 20, range(1), lambda: updates.append(model._n_updates))
    assert curve.steps == [0, 20, 40, 50]
    assert updates == [0] * 25 + list(range(25))
    assert model.replay_buffer.pos == 50
    states, actions = model.replay_buffer.observations[:25, 0], model.replay_buffer.actions[:25, 0]
    assert (actions[:12] > 0.5).all()  # in units of half the box, and with noise
    assert (actions[12:] < 0.5).any()
    own, _ = from_pretrained(plain, pendulum(), device="cpu").predict(states, deterministic=True)
    noise = (actions - own / 2)[12:]
    assert 0 < np.std(noise) < 2
    if cls is TD3:
        assert np.abs(noise).max() < 5 * EXPLORATION


@pytest.mark.parametrize("best", [0, 1, 2])
def test_fine_tuning_ends_where_its_curve_was_best(
    best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = SAC("MlpPolicy", pendulum(), **small(), buffer_size=99, batch_size=8)
    seen: list[dict[str, torch.Tensor]] = []

    def learned() -> dict[str, torch.Tensor]:
        moments = model.actor.optimizer.state_dict()["state"].get(0, {})
        return {
            **model.policy.state_dict(),
            "temperature": model.log_ent_coef.detach(),
            "moment": moments.get("exp_avg", torch.zeros(0)),
        }

    def played(*_: Any) -> Episodes:
        seen.append({name: value.clone() for name, value in learned().items()})
        returns = np.full(2, 1.0 if len(seen) - 1 == best else 0.0)
        return Episodes(returns, np.ones(2, np.int64), None)

    monkeypatch.setattr("equirl.agents.transfer.fine_tuning.play_episodes", played)
    assert fine_tune(model, pendulum, 20, 10, range(2)).best == best
    assert not torch.equal(seen[2]["temperature"], seen[1]["temperature"])
    for name, value in learned().items():
        assert torch.equal(value, seen[best][name]), name


def test_an_actor_keeps_its_learning_rate_and_a_value_based_agent_is_given_one() -> None:
    assert gentle("sac") == gentle("ppo") == gentle("dqn", None, None, None) == {}
    for given in (gentle("qrdqn"), gentle("td3", 1e-4)):
        rate = given["learning_rate"]
        assert [rate(left) for left in (1, 0.5, 0)] == [1e-4, 5e-5, 0]


def test_the_view_of_an_actor_critic_is_what_the_policy_combines() -> None:
    plain = PPO("MlpPolicy", pendulum(), **small())
    model: Any = from_pretrained(plain, pendulum(), "equizero", device="cpu")
    states = [pendulum().reset(seed=seed)[0] for seed in range(6)]
    view = view_orbits(model, states)
    own = view.branches.gather(0, view.scores.argmax(dim=0)[None, :, None].expand(1, -1, 2))[0]
    with torch.no_grad():
        mean, value = model.policy.parameters_and_values(torch.as_tensor(np.stack(states)))
    torch.testing.assert_close(own, torch.cat([mean, value], dim=1))
    played = play_episodes(model, pendulum, [1])
    assert len(played.returns) == 1


class Masked(Sampled):
    """Allows one action only, another one at every step."""

    allowed = 0

    def action_masks(self) -> Any:
        return np.arange(2) == self.allowed

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action == self.allowed
        self.allowed = 1 - self.allowed
        return super().step(action)


def test_an_agent_that_is_told_which_actions_are_allowed_keeps_to_them(tmp_path: Path) -> None:
    def masked() -> gym.Env[Any, Any]:
        return SymmetryWrapper(Masked(spaces.Box(-1, 1, (3,))), {"mirror": (np.negative, [1, 0])})

    MaskablePPO("MlpPolicy", masked(), **small()).save(tmp_path / "agent.zip")
    model = from_pretrained(tmp_path / "agent.zip", masked(), "equizero", device="cpu")
    assert isinstance(model, EquivariantMaskablePPO)
    assert play_episodes(model, masked, [1, 2]).lengths.tolist() == [8, 8]
    assert len(play_transitions([model], masked, 20, 0.0, seed=0)) == 20
    with pytest.raises(AgentError, match="action_masks"):
        play_episodes(model, lambda: TransformWrapper(masked(), "mirror"), [1])
