"""The policies: parameters like plain ones, Q-functions exactly equivariant on every space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from equirl import Symmetry
from equirl.agents import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
)
from equirl.envs import SymmetryWrapper
from equirl.errors import SymmetryError

VARIANTS: dict[str, dict[str, Any]] = {
    "equitune": {"method": "equitune"},
    "lambda": {"method": "lambda"},
    "lambda-from-equizero": {"method": "lambda", "init": "equizero"},
    "equizero": {"method": "equizero"},
    "equizero-straight-through": {"method": "equizero", "gradient": "straight_through"},
    "canonical": {"method": "canonical"},
    "canonical-straight-through": {"method": "canonical", "gradient": "straight_through"},
    "canonical-learned": {
        "method": "canonical",
        "canonical_score": "learned",
        "gradient": "straight_through",
    },
}
METHODS = ["equitune", "lambda", "equizero", "canonical"]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Sampled(gym.Env[Any, np.int64]):
    """Shows random observations of a space; an episode takes eight steps."""

    def __init__(self, observation_space: spaces.Space[Any], actions: int) -> None:
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(actions)
        self._left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._left = 8
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return self.observation_space.sample(), float(action), self._left == 0, False, {}


def dict_env() -> gym.Env[Any, Any]:
    space = spaces.Dict(
        image=spaces.Box(0, 255, (36, 36, 1), np.uint8),
        vector=spaces.Box(-1, 1, (3,)),
        place=spaces.Discrete(5),
    )
    mirror = {"image": np.fliplr, "vector": [-1, -1, 1], "place": lambda place: 4 - place}
    turn = {
        "image": np.rot90,
        "vector": lambda v: np.array([-v[1], v[0], v[2]], np.float32),
        "place": None,
    }
    return SymmetryWrapper(
        Sampled(space, 4), {"r": (turn, [3, 0, 1, 2]), "s": (mirror, [0, 3, 2, 1])}
    )


def declared(space: spaces.Space[Any], **generators: Any) -> gym.Env[Any, Any]:
    (_, permutation), *_ = generators.values()
    return SymmetryWrapper(Sampled(space, len(permutation)), generators)


ENVIRONMENTS: dict[str, tuple[Any, Any]] = {
    "cartpole": (EquivariantDQNPolicy, lambda: SymmetryWrapper(gym.make("CartPole-v1"))),
    "acrobot": (EquivariantDQNPolicy, lambda: SymmetryWrapper(gym.make("Acrobot-v1"))),
    "gridworld": (
        EquivariantDQNPolicy,
        lambda: SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=5, walls=0.2)),
    ),
    "gridworld-cnn": (
        EquivariantCnnPolicy,
        lambda: SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=36)),
    ),
    "dict": (EquivariantMultiInputPolicy, dict_env),
    "multi-binary": (
        EquivariantDQNPolicy,
        lambda: declared(spaces.MultiBinary(5), flip=(np.flip, [2, 1, 0])),
    ),
    "multi-discrete": (
        EquivariantDQNPolicy,
        lambda: declared(
            spaces.MultiDiscrete([3, 3, 4]),
            swap=(lambda s: s[[1, 0, 2]], [1, 0, 2]),
            turn=(lambda s: np.array([s[0], s[1], (s[2] + 1) % 4]), [0, 1, 2]),
        ),
    ),
    "discrete": (
        EquivariantDQNPolicy,
        lambda: declared(spaces.Discrete(6), turn=(lambda s: (s + 1) % 6, [1, 2, 0])),
    ),
}


def agent(name: str, variant: dict[str, Any], **kwargs: Any) -> tuple[DQN, Symmetry]:
    """An untrained agent with weights that differ along every orbit, and the symmetry declared."""
    policy_class, make_env = ENVIRONMENTS[name]
    env = make_env()
    policy_kwargs: dict[str, Any] = {"symmetry": env.symmetry, **variant}
    if policy_class is EquivariantCnnPolicy:
        policy_kwargs["features_extractor_kwargs"] = {"features_dim": 32}
    if policy_class is EquivariantMultiInputPolicy:
        policy_kwargs["features_extractor_kwargs"] = {"cnn_output_dim": 32}
    model = DQN(
        policy_class,
        env,
        policy_kwargs=policy_kwargs,
        **{"buffer_size": 64, "seed": 0, "device": "cpu", **kwargs},
    )
    stir(model)
    return model, env.symmetry


def stir(model: DQN) -> None:
    """Moves a learned weighting away from where it starts: weights between the extremes."""
    weighting = model.q_net.symmetrized.weighting
    if weighting is not None:
        with torch.no_grad():
            weighting.asinh_beta += 0.5
            weighting.h[-1].weight.uniform_(-3, 3)


def raw_observations(space: spaces.Space[Any], count: int) -> Any:
    """``[count, *shape]``, as environments give them."""
    space.seed(1)
    samples: list[Any] = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack(samples)


def q_values(model: DQN, observations: Any) -> Tensor:
    tensors, _ = model.policy.obs_to_tensor(observations)
    with torch.no_grad():
        values: Tensor = model.q_net(tensors)
    return values.cpu()


def greatest_error(symmetry: Symmetry, before: Tensor, after: list[Tensor]) -> float:
    """max |Q(gs, ga) − Q(s, a)|, entry by entry."""
    return max(
        abs(float(after[g][row, symmetry.permutations[g, action]] - before[row, action]))
        for g in range(symmetry.group.order)
        for row in range(len(before))
        for action in range(before.shape[1])
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_q_values_of_raw_observations_are_equivariant(name: str, variant: str) -> None:
    model, symmetry = agent(name, VARIANTS[variant])
    observations = raw_observations(symmetry.observation_space, 5)
    before = q_values(model, observations)
    after = [
        q_values(model, symmetry.transform_observation(g, observations))
        for g in range(symmetry.group.order)
    ]
    assert greatest_error(symmetry, before, after) < 1e-5
    assert float(before.std(dim=0).max()) > 1e-4


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_network_inside_is_not_equivariant_by_itself(name: str) -> None:
    model, symmetry = agent(name, VARIANTS["equitune"])
    plain = type(model.q_net).__mro__[1]
    observations = raw_observations(symmetry.observation_space, 5)

    def plain_values(given: Any) -> Tensor:
        with torch.no_grad():
            values: Tensor = plain.forward(model.q_net, model.policy.obs_to_tensor(given)[0])
        return values

    after = [
        plain_values(symmetry.transform_observation(g, observations))
        for g in range(symmetry.group.order)
    ]
    assert greatest_error(symmetry, plain_values(observations), after) > 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_q_values_of_replayed_observations_are_equivariant(name: str, method: str) -> None:
    model, symmetry = agent(name, {"method": method}, learning_starts=20)
    model.learn(40)
    assert model.replay_buffer is not None
    batch: Any = model.replay_buffer.sample(5).observations

    def moved(g: int) -> Any:
        channels_last = last(batch)
        return first(symmetry.transform_observation(g, channels_last))

    def last(tensors: Any) -> Any:
        return each_image(tensors, lambda image: image.permute(0, 2, 3, 1))

    def first(tensors: Any) -> Any:
        return each_image(tensors, lambda image: image.permute(0, 3, 1, 2))

    def each_image(tensors: Any, turned: Any) -> Any:
        if isinstance(tensors, dict):
            return {key: each_image(tensor, turned) for key, tensor in tensors.items()}
        return turned(tensors) if tensors.dim() == 4 else tensors

    with torch.no_grad():
        before = model.q_net(batch)
        after = [model.q_net(moved(g)) for g in range(symmetry.group.order)]
        target = model.q_net_target(batch)
        target_after = [model.q_net_target(moved(g)) for g in range(symmetry.group.order)]
    assert before.shape == (5, symmetry.action_space.n)
    assert greatest_error(symmetry, before, after) < 1e-5
    assert greatest_error(symmetry, target, target_after) < 1e-5


def test_a_replayed_discrete_observation_has_a_dimension_of_its_own() -> None:
    model, _ = agent("discrete", {"method": "equitune"}, learning_starts=20)
    model.learn(10)
    assert model.replay_buffer is not None
    observations = model.replay_buffer.sample(5).observations
    assert observations.shape == (5, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            model.q_net(observations), q_values(model, observations[:, 0].numpy())
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_that_the_mirror_leaves_in_place_has_equal_values_for_both_actions(
    variant: str,
) -> None:
    model, _ = agent("cartpole", VARIANTS[variant])
    left, right = q_values(model, np.zeros((3, 4), np.float32)).T
    torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_the_network(variant: str) -> None:
    model, symmetry = agent("gridworld", VARIANTS[variant])
    observations = raw_observations(symmetry.observation_space, 5)
    model.q_net(model.policy.obs_to_tensor(observations)[0]).square().sum().backward()
    for name, parameter in model.q_net.q_net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def plain_keys(policy: str, env: gym.Env[Any, Any]) -> list[str]:
    return list(DQN(policy, env, buffer_size=1).policy.state_dict())


@pytest.mark.parametrize("method", ["equitune", "equizero", "canonical"])
@pytest.mark.parametrize(
    ("name", "policy"),
    [("cartpole", "MlpPolicy"), ("gridworld-cnn", "CnnPolicy"), ("dict", "MultiInputPolicy")],
)
def test_parameters_have_the_keys_of_the_plain_policy(name: str, policy: str, method: str) -> None:
    model, _ = agent(name, {"method": method})
    _, make_env = ENVIRONMENTS[name]
    assert list(model.policy.state_dict()) == plain_keys(policy, make_env())


@pytest.mark.parametrize(
    ("name", "policy"),
    [("cartpole", "MlpPolicy"), ("gridworld-cnn", "CnnPolicy"), ("dict", "MultiInputPolicy")],
)
def test_lambda_only_adds_keys(name: str, policy: str) -> None:
    model, _ = agent(name, {"method": "lambda"})
    _, make_env = ENVIRONMENTS[name]
    plain = plain_keys(policy, make_env())
    keys = list(model.policy.state_dict())
    assert [key for key in keys if key in plain] == plain
    assert len(keys) > len(plain)


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


def test_equizero_takes_the_branch_with_the_greatest_value() -> None:
    model, _ = agent("cartpole", {"method": "equizero"})
    plain = DQN("MlpPolicy", gym.make("CartPole-v1"), buffer_size=1, seed=0, device="cpu")
    states = torch.randn(7, 4)
    with torch.no_grad():
        here, there = plain.q_net(states), plain.q_net(-states)
        best = torch.where((here.amax(1) > there.amax(1))[:, None], here, there[:, [1, 0]])
        torch.testing.assert_close(model.q_net(states), best)


def test_a_policy_without_a_symmetry_says_how_to_give_one() -> None:
    with pytest.raises(SymmetryError, match=r"policy_kwargs=dict\(symmetry=symmetry_of\(env\)"):
        DQN(EquivariantDQNPolicy, "CartPole-v1", buffer_size=1)


def test_a_symmetry_of_other_observations_is_refused_with_what_to_do() -> None:
    symmetry = SymmetryWrapper(gym.make("CartPole-v1")).symmetry
    with pytest.raises(SymmetryError, match=r"SymmetryWrapper\(wrapped_env, symmetry\)"):
        DQN(
            EquivariantDQNPolicy,
            make_vec_env("MountainCar-v0"),
            policy_kwargs={
                "symmetry": Symmetry.from_generators(
                    symmetry.observation_space, spaces.Discrete(3), {"m": (np.negative, [2, 1, 0])}
                )
            },
            buffer_size=1,
        )


def test_a_symmetry_of_other_actions_is_refused() -> None:
    symmetry = SymmetryWrapper(gym.make("CartPole-v1")).symmetry
    with pytest.raises(SymmetryError, match=r"moves Discrete\(2\), the policy has Discrete\(3\)"):
        DQN(EquivariantDQNPolicy, "Acrobot-v1", policy_kwargs={"symmetry": symmetry}, buffer_size=1)


def test_a_saved_policy_loads_with_its_symmetry(tmp_path: Any) -> None:
    for method in METHODS:
        model, symmetry = agent("cartpole", {"method": method})
        model.policy.save(tmp_path / "policy.pth")
        loaded = EquivariantDQNPolicy.load(tmp_path / "policy.pth", device="cpu")
        assert loaded.symmetry_args["symmetry"] == symmetry
        states = torch.randn(5, 4)
        with torch.no_grad():
            assert torch.equal(loaded.q_net(states), model.q_net(states))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["cartpole", "gridworld", "dict", "discrete"])
def test_q_values_are_equivariant_on_a_gpu(
    name: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, symmetry = agent(name, VARIANTS[variant], device="cuda")
    assert model.policy.device.type == "cuda"
    observations = raw_observations(symmetry.observation_space, 5)
    before = q_values(model, observations)
    after = [
        q_values(model, symmetry.transform_observation(g, observations))
        for g in range(symmetry.group.order)
    ]
    assert greatest_error(symmetry, before, after) < 1e-5


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["cartpole", "gridworld", "dict"])
def test_training_runs_on_a_gpu(name: str, variant: str) -> None:
    model, _ = agent(name, VARIANTS[variant], device="cuda", learning_starts=20)
    before = {key: value.clone() for key, value in model.q_net.state_dict().items()}
    model.learn(100)
    assert any(
        not torch.equal(value, before[key]) for key, value in model.q_net.state_dict().items()
    )
