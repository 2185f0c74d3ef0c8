"""Natively equivariant Q-networks, in stock DQN."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from torch import nn

from equirl import Symmetry
from equirl.agents import (
    DoubleDQN,
    EquivariantDQN,
    NativeEquivariantCnnPolicy,
    NativeEquivariantPolicy,
    SmallCnn,
)
from equirl.agents.native.native_network import parameter_count
from equirl.agents.saving.export import export_policy
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError, EquirlError, SymmetryError
from shared.policy_tasks import dict_env
from shared.rarely import rarely
from shared.sampled import Sampled, q_values, raw_observations
from shared.small_agents import SMALL, cartpole
from shared.symmetry_cases import CASES, Case, parameters

TAKEN_BY_SB3 = [
    case
    for case in CASES
    if not case.name.startswith(("dict", "discrete-from", "multidiscrete"))
    and "float16" not in case.name
]
"""SB3 does not count from elsewhere than 0; half precision rounds what is moved itself."""

SQUARE = {"r": (np.rot90, [1, 2, 3, 0]), "s": (np.flipud, [0, 3, 2, 1])}


def agent(env: Any, **policy_kwargs: Any) -> DQN:
    is_image = "features_extractor_class" in policy_kwargs
    return DQN(
        NativeEquivariantCnnPolicy if is_image else NativeEquivariantPolicy,
        env,
        **{**SMALL, "policy_kwargs": {"symmetry": env.symmetry, **policy_kwargs}},
    )


def greatest_error(model: DQN, symmetry: Symmetry) -> float:
    """max |Q(gs, ga) − Q(s, a)|, of observations as the environment gives them."""
    observations = raw_observations(symmetry.observation_space, 5)
    before = q_values(model, observations)
    assert float(before.std(dim=0).max()) > 1e-5
    return max(
        float(
            (
                q_values(model, symmetry.transform_observation(g, observations))[
                    :, symmetry.permutations[g].copy()
                ]
                - before
            )
            .abs()
            .max()
        )
        for g in range(symmetry.group.order)
    )


def images(size: int, generators: Any = None, channels: int = 3) -> gym.Env[Any, Any]:
    space = spaces.Box(0, 255, (size, size, channels), np.uint8)
    return SymmetryWrapper(Sampled(space, 4), generators or SQUARE)


@pytest.mark.covering(1)
@pytest.mark.parametrize("match_parameters", [False, True])
@pytest.mark.parametrize("case", parameters(TAKEN_BY_SB3))
def test_q_values_are_equivariant_on_every_space(case: Case, match_parameters: bool) -> None:
    env = SymmetryWrapper(Sampled(case.space, int(case.symmetry.action_space.n)), case.symmetry)
    model = agent(env, net_arch=[24, 24], match_parameters=match_parameters)
    assert greatest_error(model, case.symmetry) < 1e-5


@pytest.mark.parametrize("size", [7, 8, 84])
def test_q_values_of_images_are_equivariant(size: int) -> None:
    env = images(size)
    extractor = NatureCNN if size == 84 else SmallCnn
    model = agent(env, features_extractor_class=extractor, features_extractor_kwargs={})
    assert greatest_error(model, env.symmetry) < 1e-5


@pytest.mark.parametrize("name", ["vectors", "images"])
def test_in_double_precision_only_its_rounding_is_left(name: str) -> None:
    env = (
        SymmetryWrapper(Sampled(CASES[2].space, 4), CASES[2].symmetry)
        if name == "vectors"
        else images(7)
    )
    kwargs = {"features_extractor_class": SmallCnn} if name == "images" else {}
    network = agent(env, **kwargs).q_net.double()
    symmetry = network.carried

    def values(x: torch.Tensor) -> torch.Tensor:
        rows = symmetry.orbit(x).transpose(0, 1).flatten(0, 1)
        return network.q_net(network.features_extractor(rows))

    x = torch.randn(3, *symmetry.observation_space.shape, dtype=torch.float64)
    for g in range(symmetry.group.order):
        moved = values(symmetry.transform_observation(g, x))
        assert (moved - symmetry.q_values.transform(g, values(x))).abs().max() < 1e-12


def test_where_an_observation_stays_the_actions_that_move_have_equal_values() -> None:
    model = agent(SymmetryWrapper(cartpole()))
    left, right = q_values(model, np.zeros((1, 4), np.float32))[0].tolist()
    assert left == pytest.approx(right, abs=1e-7)


def test_affine_maps_are_taken_about_their_fixed_point() -> None:
    case = next(case for case in CASES if case.name == "offset-float32")
    model = agent(SymmetryWrapper(Sampled(case.space, 2), case.symmetry))
    first, second = q_values(model, np.array([[1.5, 1.5]], np.float32))[0].tolist()
    assert first == pytest.approx(second, abs=1e-6)
    assert greatest_error(model, case.symmetry) < 1e-6


@pytest.mark.parametrize("space", ["vectors", "images"])
def test_with_the_trivial_group_it_is_stock_dqn_bit_for_bit(space: str) -> None:
    env = cartpole() if space == "vectors" else Sampled(images(8).observation_space, 4)
    kwargs = {"features_extractor_class": SmallCnn} if space == "images" else {"net_arch": [16]}
    policy = NativeEquivariantCnnPolicy if space == "images" else NativeEquivariantPolicy
    trivial = Symmetry.trivial(env.observation_space, env.action_space)
    alias = "CnnPolicy" if space == "images" else "MlpPolicy"
    learning = {**SMALL, "buffer_size": 200}
    steps = 200 if space == "vectors" else 60
    stock = DQN(alias, env, **{**learning, "policy_kwargs": kwargs}).learn(steps)
    ours = DQN(
        policy,
        env,
        **{**learning, "policy_kwargs": {**kwargs, "symmetry": trivial, "match_parameters": True}},
    ).learn(steps)
    expected = stock.policy.state_dict()
    assert list(ours.policy.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in ours.policy.state_dict().items())


@pytest.mark.covering(1)
@pytest.mark.parametrize("net_arch", [[32], [64, 64], [256, 128, 64]])
@pytest.mark.parametrize("kind", ["cartpole", "images"])
def test_matched_networks_have_nearly_as_many_parameters_as_plain_ones(
    kind: str, net_arch: list[int]
) -> None:
    env = SymmetryWrapper(cartpole()) if kind == "cartpole" else images(10)
    extractor = {"features_extractor_class": SmallCnn} if kind == "images" else {}
    policy = "CnnPolicy" if kind == "images" else "MlpPolicy"
    plain = DQN(policy, env, **{**SMALL, "policy_kwargs": {"net_arch": net_arch, **extractor}})
    matched = agent(env, net_arch=net_arch, match_parameters=True, **extractor)
    ratio = parameter_count(matched.q_net) / parameter_count(plain.q_net)
    assert ratio == pytest.approx(1, abs=0.04)
    fewer = agent(env, net_arch=net_arch, **extractor)
    assert parameter_count(fewer.q_net) < 0.7 * parameter_count(plain.q_net)


def test_choosing_the_widths_draws_no_random_numbers() -> None:
    env = SymmetryWrapper(cartpole())
    weights = []
    for match_parameters in (False, True):  # both have one copy of the regular representation
        model = agent(env, net_arch=[1], match_parameters=match_parameters)
        weights.append(model.q_net.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@functools.cache
def trained(kind: str, algorithm: type[DQN] = DQN) -> DQN:
    if kind == "vectors":
        env = SymmetryWrapper(cartpole())
        kwargs: dict[str, Any] = {"net_arch": [16, 8]}
        policy: Any = NativeEquivariantPolicy
    else:
        env, kwargs = images(8), {"features_extractor_class": SmallCnn, "net_arch": [32]}
        policy = NativeEquivariantCnnPolicy
    kwargs["symmetry"] = env.symmetry
    return algorithm(policy, env, **{**SMALL, "policy_kwargs": kwargs}).learn(120)


both_kinds = pytest.mark.parametrize("kind", ["vectors", "images"])


@pytest.mark.covering(1)
@both_kinds
@pytest.mark.parametrize("algorithm", [DQN, DoubleDQN])
def test_training_moves_the_network_and_leaves_it_equivariant(
    kind: str, algorithm: type[DQN]
) -> None:
    model = trained(kind, algorithm)
    assert model._n_updates > 0
    symmetry = model.policy_kwargs["symmetry"]
    assert greatest_error(model, symmetry) < 1e-5


@both_kinds
def test_a_saved_agent_comes_back_by_sb3_and_without_unpickling(kind: str, tmp_path: Path) -> None:
    model = trained(kind)
    symmetry = model.policy_kwargs["symmetry"]
    model.save(tmp_path / "agent.zip")
    seen = raw_observations(symmetry.observation_space, 4)
    expected = q_values(model, seen)
    loaded = DQN.load(tmp_path / "agent.zip", device="cpu")
    assert torch.equal(q_values(loaded, seen), expected)
    env = SymmetryWrapper(cartpole()) if kind == "vectors" else images(8)
    agent = read_agent(tmp_path / "agent.zip")
    assert agent.is_native
    restored = restore(agent, env, "cpu")
    assert torch.equal(q_values(restored, seen), expected)
    actions, _ = restored.predict(seen, deterministic=True)
    assert np.array_equal(actions, model.predict(seen, deterministic=True)[0])
    single, _ = restored.predict(seen[0], deterministic=True)
    assert single == actions[0]


def test_sb3_evaluates_it_and_saves_its_policy_alone(tmp_path: Path) -> None:
    model = trained("vectors")
    returns, _ = evaluate_policy(
        model, model.get_env(), n_eval_episodes=2, return_episode_rewards=True
    )
    assert len(returns) == 2
    model.policy.save(tmp_path / "policy.pth")
    policy = NativeEquivariantPolicy.load(tmp_path / "policy.pth", device="cpu")
    seen = raw_observations(model.observation_space, 4)
    assert np.array_equal(
        policy.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", rarely(["vectors", "images"], "vectors"))
def test_an_exported_policy_computes_the_same(kind: str, tmp_path: Path) -> None:
    model = trained(kind)
    space = model.policy_kwargs["symmetry"].observation_space
    export_policy(model, tmp_path / "policy.pt2", "torch", space)
    program = torch.export.load(tmp_path / "policy.pt2").module()
    seen = raw_observations(space, 5)
    actions, values = program(torch.from_numpy(seen))
    torch.testing.assert_close(values.detach(), q_values(model, seen), rtol=1e-5, atol=1e-6)
    assert np.array_equal(actions.numpy(), model.predict(seen, deterministic=True)[0])


class OwnFeatures(BaseFeaturesExtractor):
    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, features_dim=2)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations[:, :2]


@pytest.mark.parametrize(
    ("make_env", "kwargs", "said"),
    [
        (dict_env, {}, "not a Dict: use method=equitune"),
        (
            lambda: SymmetryWrapper(cartpole()),
            {"features_extractor_class": OwnFeatures},
            "not of OwnFeatures: use method=equitune",
        ),
        (
            lambda: SymmetryWrapper(cartpole()),
            {"features_extractor_class": SmallCnn},
            "group convolutions take images",
        ),
        (
            lambda: images(8),
            {"features_extractor_class": NatureCNN},
            "8 × 8 pixels are too small for NatureCNN",
        ),
        (
            lambda: images(8),
            {
                "features_extractor_class": NatureCNN,
                "features_extractor_kwargs": {"normalized_image": True},
            },
            "do not heed",
        ),
    ],
    ids=["dict", "own extractor", "no image", "small image", "arguments"],
)
def test_what_cannot_be_done_natively_is_refused_in_one_line(
    make_env: Any, kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(EquirlError) as refused:
        agent(make_env(), **kwargs)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_symmetry_of_other_actions_is_refused() -> None:
    env = SymmetryWrapper(cartpole())
    other = Symmetry.from_generators(
        env.observation_space, spaces.Discrete(3), {"mirror": (np.negative, [1, 0, 2])}
    )
    with pytest.raises(SymmetryError, match="the symmetry moves"):
        DQN(NativeEquivariantPolicy, env, policy_kwargs={"symmetry": other})


def test_it_is_not_for_equivariant_dqn(tmp_path: Path) -> None:
    env = SymmetryWrapper(cartpole())
    with pytest.raises(AgentError, match="by its own layers: train it with DQN"):
        EquivariantDQN(NativeEquivariantPolicy, env)
    trained("vectors").save(tmp_path / "agent.zip")
    with pytest.raises(AgentError, match="equivariant by its layers"):
        EquivariantDQN.from_pretrained(tmp_path / "agent.zip", env)


def test_activation_functions_are_those_asked_for() -> None:
    model = agent(SymmetryWrapper(cartpole()), activation_fn=nn.Tanh)
    assert any(isinstance(module, nn.Tanh) for module in model.q_net.q_net)
    assert greatest_error(model, model.policy_kwargs["symmetry"]) < 1e-5


def test_an_empty_batch_gives_no_actions() -> None:
    board = images(9)
    small = {"features_extractor_class": SmallCnn, "features_extractor_kwargs": {"features_dim": 8}}
    for env, kwargs in ((cartpole(), {}), (cartpole(), {"net_arch": []}), (board, small)):
        wrapped: Any = env if isinstance(env, SymmetryWrapper) else SymmetryWrapper(env)
        model = agent(wrapped, **kwargs)
        shape = wrapped.observation_space.shape
        empty = np.zeros((0, *shape), wrapped.observation_space.dtype)
        assert model.predict(empty, deterministic=True)[0].shape == (0,)
