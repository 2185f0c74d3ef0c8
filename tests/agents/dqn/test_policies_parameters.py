"""The policies' parameters are those of plain ones, and how Q-values are made of them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN, EquivariantDQNPolicy
from equirl.errors import MethodError, SymmetryError
from equirl.symmetrize import METHODS as CLASSES
from equirl.symmetrize import OPTIONS
from shared.policy_tasks import ENVIRONMENTS, agent
from shared.small_agents import METHODS


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "policy"),
    [("cartpole", "MlpPolicy"), ("gridworld-cnn", "CnnPolicy"), ("dict", "MultiInputPolicy")],
)
def test_parameters_have_the_keys_of_the_plain_policy_and_only_lambda_adds_some(
    name: str, policy: str, method: str
) -> None:
    model, _ = agent(name, {"method": method})
    plain = list(DQN(policy, ENVIRONMENTS[name][1](), buffer_size=1).policy.state_dict())
    keys = list(model.policy.state_dict())
    assert [key for key in keys if key in plain] == plain
    assert (len(keys) > len(plain)) == (method == "lambda")


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_of_a_plain_policy_fit_and_an_equal_seed_starts_with_them(method: str) -> None:
    model, _ = agent("acrobot", {"method": method})
    plain = DQN("MlpPolicy", gym.make("Acrobot-v1"), buffer_size=1, seed=0, device="cpu")
    own = model.policy.state_dict()
    for key, value in plain.policy.state_dict().items():
        assert torch.equal(own[key], value), key
    missing, unexpected = model.policy.load_state_dict(plain.policy.state_dict(), strict=False)
    assert not unexpected
    assert all(".symmetrized." in key for key in missing)


def test_equitune_averages_the_plain_network_over_the_orbit() -> None:
    model, _ = agent("cartpole", {"method": "equitune"})
    plain = DQN("MlpPolicy", gym.make("CartPole-v1"), buffer_size=1, seed=0, device="cpu")
    states = torch.randn(7, 4)
    with torch.no_grad():
        average = (plain.q_net(states) + plain.q_net(-states)[:, [1, 0]]) / 2
        torch.testing.assert_close(model.q_net(states), average)


def test_a_policy_without_a_symmetry_says_how_to_give_one() -> None:
    with pytest.raises(SymmetryError, match=r"policy_kwargs=dict\(symmetry=symmetry_of\(env\)"):
        DQN(EquivariantDQNPolicy, "CartPole-v1", buffer_size=1)


def test_a_saved_policy_loads_with_its_symmetry(tmp_path: Any) -> None:
    for method in METHODS:
        model, symmetry = agent("cartpole", {"method": method})
        model.policy.save(tmp_path / "policy.pth")
        loaded = EquivariantDQNPolicy.load(tmp_path / "policy.pth", device="cpu")
        assert loaded.symmetry_args["symmetry"] == symmetry
        states = torch.randn(5, 4)
        with torch.no_grad():
            assert torch.equal(loaded.q_net(states), model.q_net(states))


@pytest.mark.parametrize("method", METHODS)
def test_options_that_the_method_does_not_heed_are_refused_and_not_saved(method: str) -> None:
    saved = {name: option.default for name, option in OPTIONS.items()}  # by earlier versions
    model, _ = agent("cartpole", {"method": method, **saved})
    heeded = CLASSES[method]().options
    kept = model.policy._get_constructor_parameters()
    assert {name: kept[name] for name in kept if name in OPTIONS} == heeded
    others = {
        "gradient": "straight_through", "init": "equizero", "canonical_score": "learned",
        "orbit_samples": 2,
    }  # fmt: skip
    for name in set(others) - set(heeded):
        with pytest.raises(MethodError, match=name):
            agent("cartpole", {"method": method, **saved, name: others[name]})
        for value in (others[name], OPTIONS[name].default or 2):
            given: Any = {name: value}
            with pytest.raises(MethodError, match=name):
                EquivariantDQN("MlpPolicy", "CartPole-v1", method, buffer_size=1, **given)


def test_a_method_may_be_given_as_an_object_and_is_saved_in_words() -> None:
    method = CLASSES["lambda"](init="equizero")
    model = EquivariantDQN("MlpPolicy", "CartPole-v1", method, buffer_size=1)
    assert {**model.policy_kwargs, "symmetry": None} == {
        "method": "lambda", "init": "equizero", "symmetry": None,
    }  # fmt: skip
