"""DQN with a penalty on asymmetry: what the penalty is, and that nothing else has changed."""

from __future__ import annotations

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl import Symmetry
from equirl.agents import DoubleDQN, EquivarianceCallback, MirrorLossDQN, SymmetricVecNormalize
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import SymmetryError
from equirl.verification.exact import equivariance_error
from shared.policy_tasks import dict_env
from shared.sampled import q_values, raw_observations
from shared.small_agents import SMALL, cartpole
from shared.stock_twins import image_env, square_env

TINY = {**SMALL, "buffer_size": 200}


def parameters(model: DQN, steps: int = 200) -> dict[str, torch.Tensor]:
    return model.learn(steps).policy.state_dict()


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("why", ["trivial group", "no weight"])
def test_without_anything_to_penalise_it_is_plain_dqn_bit_for_bit(why: str, double_q: bool) -> None:
    plain = parameters(DoubleDQN("MlpPolicy", cartpole(), double_q=double_q, **TINY))
    env = cartpole()
    kwargs: dict[str, Any] = (
        {"symmetry": Symmetry.trivial(env.observation_space, env.action_space)}
        if why == "trivial group"
        else {"mirror_weight": 0.0}
    )
    ours = MirrorLossDQN("MlpPolicy", env, double_q=double_q, **kwargs, **TINY)
    assert_same(parameters(ours), plain)


def test_the_loss_is_that_of_dqn_and_the_mean_square_of_the_asymmetry() -> None:
    weight = 3.0
    model = MirrorLossDQN("MlpPolicy", cartpole(), mirror_weight=weight, **TINY)
    states = torch.randn(6, 4)
    actions = torch.randint(2, (6, 1))
    targets = torch.randn(6, 1)
    rewards = torch.zeros(6, 1)
    sample = ReplayBufferSamples(states, actions, states, rewards, rewards)
    q_values, mirrored = model.q_net(states), model.q_net(-states)
    expected = F.smooth_l1_loss(q_values.gather(1, actions), targets) + weight * (
        ((mirrored[:, [1, 0]] - q_values) ** 2).mean()
    )
    torch.testing.assert_close(model.loss(sample, targets), expected)


def test_every_element_but_the_identity_is_drawn_equally_often() -> None:
    env = square_env()
    model = MirrorLossDQN("MlpPolicy", env, **TINY)
    with torch.no_grad():
        for parameter in model.q_net.parameters():
            parameter.zero_()
        model.q_net.q_net[-1].bias.copy_(torch.tensor([0.0, 1.0, 3.0, 7.0]))
    np.random.seed(0)  # noqa: NPY002  # SB3's generator, from which the elements are drawn
    states = torch.randn(20_000, 4)
    column = torch.zeros(20_000, 1)
    sample = ReplayBufferSamples(states, column.long(), states, column, column)
    bias = np.array([0.0, 1.0, 3.0, 7.0])
    moves = [bias[permutation] - bias for permutation in env.symmetry.permutations[1:]]
    expected = float(np.mean(np.square(moves)))
    assert float(model.loss(sample, column).detach()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("policy", "make_env"),
    [
        ("MlpPolicy", square_env),
        pytest.param("CnnPolicy", image_env, marks=pytest.mark.slow),
        pytest.param("MultiInputPolicy", dict_env, marks=pytest.mark.slow),
    ],
)
def test_the_penalty_makes_the_network_more_symmetric(policy: str, make_env: Any) -> None:
    errors = []
    for weight in (0.0, 30.0):
        features = {
            "MlpPolicy": {},
            "CnnPolicy": {"features_extractor_kwargs": {"features_dim": 16}},
            "MultiInputPolicy": {"features_extractor_kwargs": {"cnn_output_dim": 16}},
        }[policy]
        kwargs = {**TINY, "policy_kwargs": {"net_arch": [16], **features}}
        model = MirrorLossDQN(
            policy, make_env(), mirror_weight=weight, learning_rate=3e-3, train_freq=1, **kwargs
        ).learn(110)
        seen = model.policy.obs_to_tensor(raw_observations(model.observation_space, 8))[0]
        with torch.no_grad():
            errors.append(
                equivariance_error(
                    model.q_net, model.symmetry.observations, model.symmetry.q_values, seen
                )
            )
    assert errors[1] < 0.5 * errors[0]


def test_a_saved_agent_is_a_plain_one_that_needs_no_equirl(tmp_path: Path) -> None:
    model = MirrorLossDQN("MlpPolicy", cartpole(), **TINY).learn(100)
    model.save(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        data = json.loads(archive.read("data"))
    pickles = [
        base64.b64decode(value[":serialized:"])
        for value in data.values()
        if isinstance(value, dict) and ":serialized:" in value
    ]
    assert pickles
    assert not any(b"equirl" in pickle for pickle in pickles)
    seen = raw_observations(model.observation_space)
    plain = DQN.load(tmp_path / "agent.zip", device="cpu")
    assert_same(plain.policy.state_dict(), model.policy.state_dict())
    agent = read_agent(tmp_path / "agent.zip")
    assert not agent.is_equivariant
    assert torch.equal(q_values(restore(agent, cartpole(), "cpu"), seen), q_values(model, seen))


def test_it_comes_back_with_its_symmetry_and_trains_on(tmp_path: Path) -> None:
    model = MirrorLossDQN("MlpPolicy", square_env(), mirror_weight=2.0, double_q=True, **TINY)
    model.save(tmp_path / "agent.zip")
    loaded = MirrorLossDQN.load(tmp_path / "agent.zip", env=square_env(), device="cpu")
    assert loaded.symmetry == model.symmetry
    assert (loaded.mirror_weight, loaded.double_q) == (2.0, True)
    before = {key: value.clone() for key, value in loaded.policy.state_dict().items()}
    loaded.learn(100)
    assert any(
        not torch.equal(value, before[key]) for key, value in loaded.policy.state_dict().items()
    )


def test_normalised_observations_are_taken_only_with_the_symmetry() -> None:
    def env() -> DummyVecEnv:
        return DummyVecEnv([lambda: SymmetryWrapper(cartpole())])

    with pytest.raises(SymmetryError, match="SymmetricVecNormalize"):
        MirrorLossDQN("MlpPolicy", VecNormalize(env()), **TINY)
    model = MirrorLossDQN("MlpPolicy", SymmetricVecNormalize(env()), **TINY).learn(100)
    with pytest.raises(SymmetryError, match="SymmetricVecNormalize"):
        model.set_env(VecNormalize(env()))


def test_tensorboard_shows_how_much_asymmetry_is_left() -> None:
    model = MirrorLossDQN("MlpPolicy", cartpole(), **TINY)
    model.learn(120, callback=EquivarianceCallback(every=100), log_interval=1000)
    shown = model.logger.name_to_value["equirl/equivariance_error"]
    assert shown > 1e-5
