"""`equirl.agents.transfer_agent`: the versions of an agent, and which of them is taken."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack
from torch.nn import ReLU

from equirl.agents import EquivariantDQN, transfer_agent
from equirl.agents.training.evaluation import Episodes, play_episodes
from equirl.agents.transfer.branch_table import weighting_of
from equirl.agents.transfer.fine_tuning import fine_tune, gentle
from equirl.agents.transfer.transfer import LEARNED, PLAIN, RELAXED, choose
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.unbalanced_agent import save_unbalanced_agent


@pytest.fixture(autouse=True)
def little_play_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before an agent is transferred; what is measured on that play is not tested here."""
    monkeypatch.setattr("equirl.agents.transfer.beforehand.OWN_STEPS", 200)


def episodes(*returns: float) -> Episodes:
    return Episodes(np.array(returns), np.ones(len(returns), dtype=np.int64), None)


@pytest.mark.parametrize(
    ("equitune", "equizero", "chosen"),
    [
        # Gains 2, 0, 2, 0: t = 1 / (1.155 / 2) = 1.73; two versions and four episodes ask for the
        # 97.5 % point of the t-distribution of three degrees of freedom, 3.18.
        ((12, 20, 32, 40), (10, 20, 30, 40), "plain"),
        # Gains 2, 1, 2, 1: t = 5.2. The returns spread by 13: only in pairs is the gain certain.
        ((12, 21, 32, 41), (10, 20, 30, 40), "equitune"),
        # Gains 40, 0, 0, 0: the larger mean, but t = 1.
        ((12, 21, 32, 41), (50, 20, 30, 40), "equitune"),
        # Both certain: the larger mean, 3 against 1.5.
        ((12, 21, 32, 41), (13, 23, 33, 43), "equizero"),
        # A certain loss, and no difference at all.
        ((5, 15, 25, 35), (10, 20, 30, 40), "plain"),
        # The same gain in every episode, and the same loss.
        ((11, 21, 31, 41), (9, 19, 29, 39), "equitune"),
    ],
)
def test_another_version_is_chosen_only_where_its_gain_is_certain(
    equitune: tuple[float, ...], equizero: tuple[float, ...], chosen: str
) -> None:
    played = {
        "plain": episodes(10, 20, 30, 40),
        "equitune": episodes(*equitune),
        "equizero": episodes(*equizero),
    }
    assert choose(played) == chosen


RETURNS = st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=5)


@given(st.lists(RETURNS, min_size=2, max_size=5))
def test_no_version_is_chosen_that_is_worse_than_the_original(returns: list[list[float]]) -> None:
    names = [PLAIN, LEARNED, "equitune", "equizero", "beta=1"]
    played = {name: episodes(*one) for name, one in zip(names, returns, strict=False)}
    chosen = choose(played)
    assert chosen == PLAIN or played[chosen].mean > played[PLAIN].mean


def test_the_more_versions_the_surer_must_the_gain_be() -> None:
    # Gains 1 ± d: t = √3 / d. One version asks for 2.353 and three for 3.740 (df 3, 5 % / 3).
    for others, critical in ((1, 2.3534), (3, 3.7403)):
        for factor, chosen in ((0.999, "v0"), (1.001, "plain")):
            gains = 1 + factor * 3**0.5 / critical * np.array([1, -1, 1, -1])
            played = {"plain": episodes(0, 0, 0, 0), "v0": episodes(*gains)}
            played |= {f"v{i}": episodes(0, 0, 0, 0) for i in range(1, others)}
            assert choose(played) == chosen


def test_one_episode_and_rounding_errors_prove_nothing() -> None:
    assert choose({"plain": episodes(0), "v0": episodes(100)}) == "plain"
    rounded = 0.1 + 0.2 + 0.4
    assert rounded > 0.7
    assert choose({"plain": episodes(0.7, 0.7), "v0": episodes(rounded, rounded)}) == "plain"
    assert choose({"plain": episodes(0, 0), "v0": episodes(1, 1)}) == "v0"  # the same gain always


@pytest.mark.long
def test_versions_that_are_no_better_replace_the_original_in_one_case_of_twenty() -> None:
    random = np.random.default_rng(0)
    replaced = 0
    for _ in range(150):
        names = [PLAIN, *"abcdefgh"]
        played = {name: episodes(*random.normal(size=30)) for name in names}
        replaced += choose(played) != PLAIN
    # The versions share the original's own luck, so that it is less than their eight twentieths.
    assert 0 < replaced < 14


@pytest.fixture(scope="module")
def pushes_right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_unbalanced_agent(tmp_path_factory.mktemp("agents") / "pushes_right.zip")


@pytest.mark.slow
def test_every_stage_has_its_versions_and_the_best_is_taken(pushes_right: Path) -> None:
    result = transfer_agent(
        pushes_right,
        "CartPole-v1",
        stage="all",
        methods=["equitune"],
        betas=[0.3],
        episodes=6,
        weight_steps=1000,
        finetune_steps=300,
        finetune_every=150,
        finetune_episodes=2,
        device="cpu",
    )
    trained = [f"{name}, trained" for name in ("plain", "equitune")]
    assert list(result.played) == [PLAIN, "equitune", "beta=0.3", LEARNED, RELAXED, *trained]
    assert result.model is result.models[result.chosen] is not result.models[PLAIN]
    assert result.played[result.chosen].mean > 10 * result.played[PLAIN].mean
    assert type(result.models[PLAIN]) is DQN
    again = play_episodes(
        result.model, lambda: gym.make("CartPole-v1"), range(1_000_000, 1_000_006)
    )
    np.testing.assert_array_equal(again.returns, result.played[result.chosen].returns)
    assert result.learned is not None
    assert 1000 <= result.learned.steps <= 1500
    for name, curve in result.curves.items():
        trained_one = result.models[f"{name}, trained"]
        assert (trained_one.n_steps, trained_one.exploration_initial_eps) == (5, 0.3)
        assert [trained_one.lr_schedule(left) for left in (1, 0.5, 0)] == [1e-4, 5e-5, 0]
        assert curve.steps == [0, 150, 300]
        assert curve.steps_to(-1) == 0
        assert curve.steps_to(501) is None
        start = result.models["plain" if name == PLAIN else name]
        assert start is not result.models[f"{name}, trained"]
    # Where nothing was trained, the network is the original's.
    for name in ("equitune", "beta=0.3", LEARNED, RELAXED):
        for key, value in result.models[PLAIN].q_net.q_net.state_dict().items():
            assert torch.equal(result.models[name].q_net.q_net.state_dict()[key], value)
    assert f"chosen: {result.chosen}" in str(result)


@pytest.mark.long
def test_training_further_with_the_agents_own_hyper_parameters(pushes_right: Path) -> None:
    short = {"episodes": 2, "finetune_steps": 60, "finetune_every": 60, "finetune_episodes": 1}
    nothing = gentle(learning_rate=None, n_steps=None, exploration_initial_eps=None)
    result = transfer_agent(
        pushes_right, "CartPole-v1", stage="finetune", finetune_kwargs=nothing, **short
    )
    original = DQN.load(pushes_right)
    for name in ("plain, trained", "equitune, trained"):
        model = result.models[name]
        assert model.n_steps == original.n_steps == 1
        assert model.exploration_initial_eps == original.exploration_initial_eps
        assert model.lr_schedule(0) == original.lr_schedule(0) > 0


@pytest.mark.long
def test_beta_means_the_same_for_small_and_for_large_values(pushes_right: Path) -> None:
    spreads = []
    for scale in (1.0, 1000.0):
        model = DQN.load(pushes_right, device="cpu")
        with torch.no_grad():
            model.q_net.q_net[2].weight.mul_(scale)
            model.q_net.q_net[2].bias.mul_(scale)
        scaled = pushes_right.with_name(f"scaled{scale:g}.zip")
        model.save(scaled)
        result = transfer_agent(
            scaled, "CartPole-v1", stage="zero_shot", methods=[], betas=[1], episodes=2
        )
        spreads.append(float(weighting_of(result.models["beta=1"]).running_score_spread))
        ones = torch.ones(1, 4, device=result.models["beta=1"].device)
        weights = result.models["beta=1"].q_net.symmetrized.branches(ones).weights
        spreads.append(float(weights[0, 0]))
    assert spreads[2] == pytest.approx(1000 * spreads[0], rel=1e-3)
    assert spreads[3] == pytest.approx(spreads[1], rel=1e-3)
    assert abs(spreads[1] - 0.5) > 0.01


@pytest.mark.long
def test_fine_tuning_explores_little_and_trains_everything(pushes_right: Path) -> None:
    model = EquivariantDQN.from_pretrained(
        pushes_right,
        SymmetryWrapper(gym.make("CartPole-v1")),
        device="cpu",
        exploration_final_eps=0.07,
        train_freq=2,
        gradient_steps=1,
        seed=0,
    )
    before = {key: value.clone() for key, value in model.q_net.state_dict().items()}
    steps, trained = 0, before

    def note() -> None:
        nonlocal steps, trained
        steps += 1
        if steps == 250:  # afterwards the best point of the curve is given back
            trained = {key: value.clone() for key, value in model.q_net.state_dict().items()}

    curve = fine_tune(model, lambda: gym.make("CartPole-v1"), 250, 100, range(2), note)
    assert steps == 250
    assert curve.steps == [0, 100, 200, 250]
    assert model.exploration_rate == 0.07
    assert all(not torch.equal(before[key], value) for key, value in trained.items())


def test_equivariant_agent_and_unknown_stage_are_refused(
    tmp_path: Path, pushes_right: Path
) -> None:
    path = tmp_path / "agent.zip"
    EquivariantDQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu").save(path)
    with pytest.raises(AgentError, match="equivariant already"):
        transfer_agent(path, "CartPole-v1")
    with pytest.raises(ValueError, match="stage must be one of zero_shot"):
        transfer_agent(pushes_right, "CartPole-v1", stage="one_shot")
    with pytest.raises(ValueError, match="episodes must be at least 2, got 1"):
        transfer_agent(pushes_right, "CartPole-v1", episodes=1)


@pytest.mark.long
def test_a_model_and_a_vec_env_are_as_good_as_a_file_and_an_id(pushes_right: Path) -> None:
    model = DQN.load(pushes_right, device="cpu")
    few = {"stage": "zero_shot", "methods": ["equitune"], "betas": [], "episodes": 2}
    vec_env = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))])
    of_file = transfer_agent(pushes_right, "CartPole-v1", **few, device="cpu")
    of_model = transfer_agent(model, vec_env, **few, device="cpu")
    for name, played in of_file.played.items():
        np.testing.assert_array_equal(of_model.played[name].returns, played.returns)


def test_a_vec_env_of_which_no_single_environment_can_be_had_is_refused(pushes_right: Path) -> None:
    stacked = VecFrameStack(DummyVecEnv([lambda: gym.make("CartPole-v1")]), 2)
    with pytest.raises(AgentError, match="or a DummyVecEnv, not normalised or stacked, got VecFra"):
        transfer_agent(pushes_right, stacked)
    lock = gym.make("CartPole-v1")
    lock.unwrapped.lock = Lock()  # type: ignore[attr-defined]  # which cannot be copied
    with pytest.raises(AgentError, match=r"cannot be copied .*give a function that makes one"):
        transfer_agent(pushes_right, DummyVecEnv([lambda: lock]))


def test_a_model_with_classes_of_its_own_is_left_to_from_pretrained() -> None:
    class Own(FlattenExtractor):
        pass

    kwargs = {"features_extractor_class": Own}
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu", policy_kwargs=kwargs)
    with pytest.raises(AgentError, match=r"extractor_class: such agents .*from_pretrained"):
        transfer_agent(model, "CartPole-v1")


@pytest.mark.parametrize("cls", [A2C, QRDQN])
def test_a_model_with_the_classes_that_sb3_gives_it_is_no_other_than_its_file(cls: Any) -> None:
    buffer = {} if cls is A2C else {"buffer_size": 1}
    model = cls(
        "MlpPolicy", "CartPole-v1", device="cpu", policy_kwargs={"activation_fn": ReLU}, **buffer
    )
    assert any(isinstance(value, type) for value in model.policy_kwargs.values())
    found = transfer_agent(
        model, "CartPole-v1", stage="zero_shot", methods=(), betas=(), episodes=2
    )
    assert found.chosen == "plain"
