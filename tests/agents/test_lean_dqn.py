"""`LeanDQN` trains as SB3's own DQN does on the same policy and minibatches, up to rounding."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import polyak_update
from torch import Tensor, nn

from equirl.agents import EquivariantDQN
from equirl.agents.lean_dqn import ROWS_AT_ONCE
from equirl.envs import SymmetryWrapper
from policy_tasks import VARIANTS, dict_env, stir
from sampled import Sampled

CUT_SHORT = 0.1
"""A gradient norm that every gradient here exceeds."""

GENTLE = 1e-3
"""Adam's ε. Some gradients vanish by symmetry, as those of the bias before batch normalisation do;
with the usual ε Adam would make steps of full length out of what rounding leaves of them."""


class BatchNormed(BaseFeaturesExtractor):
    """Hidden units whose running statistics the target network takes over."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, features_dim=16)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.layers(observations)
        return features


def square_env() -> gym.Env[Any, Any]:
    """D4 on position and velocity, and on the actions east, north, west, south."""
    turn = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
    return SymmetryWrapper(
        Sampled(spaces.Box(-1, 1, (4,)), 4),
        {"r": (turn, [1, 2, 3, 0]), "s": ([1, -1, 1, -1], [0, 3, 2, 1])},
    )


def image_env() -> gym.Env[Any, Any]:
    return SymmetryWrapper(
        Sampled(spaces.Box(0, 255, (36, 36, 1), np.uint8), 4),
        {"r": (np.rot90, [1, 2, 3, 0]), "s": (np.flipud, [0, 3, 2, 1])},
    )


def agent(
    variant: dict[str, Any],
    env: gym.Env[Any, Any],
    policy: str = "MlpPolicy",
    transitions: int = 96,
    policy_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> EquivariantDQN:
    """Untrained, with so many random transitions in its replay buffer."""
    model = EquivariantDQN(
        policy,
        env,
        **variant,
        policy_kwargs={
            "net_arch": [16],
            "optimizer_kwargs": {"eps": GENTLE},
            **(policy_kwargs or {}),
        },
        **{
            "buffer_size": 256,
            "learning_starts": 10**6,
            "learning_rate": 1e-2,
            "target_update_interval": 10**6,
            "seed": 0,
            "device": "cpu",
            **kwargs,
        },
    )
    stir(model)
    model.learn(transitions)
    # Otherwise it would be the network's own copy, and the targets known to it.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.q_net_target.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def stock_twin(model: EquivariantDQN, policy: str, env: gym.Env[Any, Any]) -> EquivariantDQN:
    """The same agent, its parameters updated one by one as SB3 does."""
    kwargs = copy.copy(model.policy_kwargs)
    kwargs["optimizer_kwargs"] = {"eps": GENTLE, "foreach": False, "fused": False}
    twin = EquivariantDQN(
        policy,
        env,
        policy_kwargs=kwargs,
        **{
            name: getattr(model, name)
            for name in ("learning_rate", "tau", "gamma", "max_grad_norm", "seed", "device")
        },
        buffer_size=1,
    )
    twin.policy.load_state_dict(model.policy.state_dict())
    twin.replay_buffer = copy.deepcopy(model.replay_buffer)
    twin._setup_learn(10**6)
    return twin


def hand_out(model: DQN, rows: np.ndarray) -> None:
    """Makes the replay buffer sample these rows, in this order, however many are asked for."""
    pending: Iterator[int] = iter(rows.tolist())
    buffer = model.replay_buffer

    def sample(batch_size: int, env: Any = None) -> Any:
        return buffer._get_samples(np.array([next(pending) for _ in range(batch_size)]), env)

    buffer.sample = sample  # type: ignore[method-assign,union-attr]


def logged(model: DQN) -> dict[str, Any]:
    logger: Logger = model.logger
    return dict(logger.name_to_value)


def assert_trained_alike(
    model: EquivariantDQN, twin: EquivariantDQN, steps: int, batch_size: int
) -> None:
    """Train the one leanly and the other in SB3's own words, and compare all that was learned."""
    rows = np.random.default_rng(5).integers(0, model.replay_buffer.size(), steps * batch_size)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    for learner in (model, twin):
        hand_out(learner, rows)
    model.train(steps, batch_size)
    DQN.train(twin, steps, batch_size)

    assert logged(model)["train/loss"] == pytest.approx(logged(twin)["train/loss"], rel=1e-5)
    assert logged(model)["train/n_updates"] == logged(twin)["train/n_updates"] == steps
    assert model._n_updates == twin._n_updates == steps
    assert_close(model.policy.state_dict(), twin.policy.state_dict())
    assert_close(moments(model), moments(twin))
    after = model.policy.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert any(key.startswith("q_net.") for key in moved)
    assert not any(key.startswith("q_net_target.") for key in moved)


def moments(model: DQN) -> dict[str, Tensor]:
    state = model.policy.optimizer.state_dict()["state"]
    return {f"{p}.{name}": value for p, own in state.items() for name, value in own.items()}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to a few roundings; a step moves parameters by about 1e-2."""
    assert list(actual) == list(expected)
    sizes: dict[str, float] = defaultdict(float)
    for key, value in expected.items():
        kind = key.rpartition(".")[2]
        sizes[kind] = max(sizes[kind], float(value.abs().max()))
    for key, value in expected.items():
        atol = 2e-6 * min(1, sizes[key.rpartition(".")[2]])
        torch.testing.assert_close(actual[key], value, rtol=2e-5, atol=atol, msg=key)


every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))


@every_variant
@pytest.mark.parametrize("max_grad_norm", [CUT_SHORT, 1e6], ids=["clipped", "not-clipped"])
def test_training_gives_what_stock_training_gives(
    variant: dict[str, Any], max_grad_norm: float
) -> None:
    model = agent(variant, square_env(), max_grad_norm=max_grad_norm)
    assert_trained_alike(model, stock_twin(model, "MlpPolicy", square_env()), 5, 16)
    gradients = [p.grad for p in model.q_net.parameters() if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients))
    if max_grad_norm == CUT_SHORT:
        assert norm == pytest.approx(CUT_SHORT, rel=1e-4)
    else:
        assert norm > CUT_SHORT


@pytest.mark.parametrize("method", ["equitune", "canonical"])
@pytest.mark.parametrize(
    ("steps", "batch_size"),
    [
        (1, 1),
        (3, ROWS_AT_ONCE // 8),  # one minibatch at a time
        (3, ROWS_AT_ONCE // 8 + 1),
        (5, ROWS_AT_ONCE // 16),  # two at a time, and one is left
        (3, ROWS_AT_ONCE // 32),  # all at once
    ],
)
def test_minibatches_drawn_together_are_used_one_by_one(
    method: str, steps: int, batch_size: int
) -> None:
    model = agent({"method": method}, square_env(), transitions=200)
    assert_trained_alike(model, stock_twin(model, "MlpPolicy", square_env()), steps, batch_size)


@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero", "canonical"])
def test_training_on_images_gives_what_stock_training_gives(method: str) -> None:
    kwargs = {"features_extractor_kwargs": {"features_dim": 16}}
    model = agent(
        {"method": method}, image_env(), "CnnPolicy", policy_kwargs=kwargs, buffer_size=100
    )
    assert_trained_alike(model, stock_twin(model, "CnnPolicy", image_env()), 3, 4)


@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero", "canonical"])
def test_training_on_dicts_gives_what_stock_training_gives(method: str) -> None:
    kwargs = {"features_extractor_kwargs": {"cnn_output_dim": 16}}
    model = agent(
        {"method": method}, dict_env(), "MultiInputPolicy", policy_kwargs=kwargs, buffer_size=100
    )
    assert_trained_alike(model, stock_twin(model, "MultiInputPolicy", dict_env()), 3, 4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_rewards_are_discounted_as_in_stock_training(gamma: float, n_steps: int) -> None:
    options = {"gamma": gamma, "n_steps": n_steps}
    model = agent({"method": "equitune"}, square_env(), **options)
    twin = stock_twin(model, "MlpPolicy", square_env())
    discounts = model.replay_buffer.sample(64).discounts
    assert (discounts is None) == (n_steps == 1)
    if n_steps == 3 and gamma == 0.5:  # also where an episode ends earlier
        assert set(discounts.flatten().tolist()) == {0.5, 0.25, 0.125}
    assert_trained_alike(model, twin, 5, 16)


@every_variant
def test_batch_norm_learns_what_it_learns_in_stock_training(variant: dict[str, Any]) -> None:
    kwargs = {"features_extractor_class": BatchNormed}
    model = agent(variant, square_env(), policy_kwargs=kwargs)
    twin = stock_twin(model, "MlpPolicy", square_env())
    assert_trained_alike(model, twin, 4, 16)
    running = "features_extractor.layers.1.running_mean"
    assert not torch.equal(
        model.q_net.state_dict()[running], model.q_net_target.state_dict()[running]
    )
    model._update_target()
    assert torch.equal(model.q_net.state_dict()[running], model.q_net_target.state_dict()[running])


@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero", "canonical"])
@pytest.mark.parametrize("tau", [1.0, 0.05, 0.0])
def test_the_target_network_follows_as_in_stock_dqn(method: str, tau: float) -> None:
    kwargs = {"features_extractor_class": BatchNormed}
    model = agent({"method": method}, square_env(), policy_kwargs=kwargs, tau=tau)
    model.train(2, 8)  # so that there are running statistics to copy
    expected = copy.deepcopy(model.q_net_target)
    polyak_update(model.q_net.parameters(), expected.parameters(), tau)
    for name, buffer in model.q_net.named_buffers():
        if "running_" in name:
            expected.get_buffer(name).copy_(buffer)
    model._update_target()
    actual = model.q_net_target.state_dict()
    if tau == 1:
        assert all(torch.equal(value, actual[key]) for key, value in expected.state_dict().items())
    assert_close(actual, expected.state_dict())


@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_stepping_updates_the_target_and_the_exploration_as_in_stock_dqn(tau: float) -> None:
    model = agent({"method": "equitune"}, square_env(), tau=tau, target_update_interval=3)
    twin = stock_twin(model, "MlpPolicy", square_env())
    twin.target_update_interval = 3
    twin._n_calls = model._n_calls
    twin._current_progress_remaining = model._current_progress_remaining
    twin.exploration_schedule = model.exploration_schedule
    start = {key: value.clone() for key, value in model.q_net_target.state_dict().items()}
    updates = 0
    for _ in range(7):
        model._on_step()
        DQN._on_step(twin)
        now = model.q_net_target.state_dict()
        updates += any(not torch.equal(value, now[key]) for key, value in start.items())
        start = {key: value.clone() for key, value in now.items()}
        assert_close(now, twin.q_net_target.state_dict())
        key = "rollout/exploration_rate"
        assert logged(model)[key] == logged(twin)[key] == model.exploration_rate
    assert updates == (1 if tau == 1 else 2)  # copying twice changes nothing the second time
    assert model._n_calls == twin._n_calls


@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero", "canonical"])
@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_learning_in_turns_with_target_updates_stays_with_stock_dqn(
    method: str, tau: float
) -> None:
    model = agent({"method": method}, square_env(), tau=tau, learning_rate=1e-3)
    twin = stock_twin(model, "MlpPolicy", square_env())
    rows = np.random.default_rng(5).integers(0, model.replay_buffer.size(), 3 * 4 * 16)
    for learner in (model, twin):
        hand_out(learner, rows)
        learner.target_update_interval = 1
    for _ in range(3):
        model.train(4, 16)
        model._on_step()
        DQN.train(twin, 4, 16)
        DQN._on_step(twin)
    assert_close(model.policy.state_dict(), twin.policy.state_dict())
    assert_close(moments(model), moments(twin))


def test_the_learning_rate_follows_its_schedule() -> None:
    model = agent({"method": "equitune"}, square_env(), learning_rate=lambda left: 0.5 * left)
    model._current_progress_remaining = 0.25
    model.train(1, 8)
    assert model.policy.optimizer.param_groups[0]["lr"] == 0.125


def test_parameters_that_are_frozen_stay_as_they_are() -> None:
    model = agent({"method": "equitune"}, square_env())
    twin = stock_twin(model, "MlpPolicy", square_env())
    for learner in (model, twin):
        learner.q_net.q_net[0].requires_grad_(False)
    frozen = model.q_net.q_net[0].weight.clone()
    assert_trained_alike(model, twin, 3, 16)
    assert torch.equal(model.q_net.q_net[0].weight, frozen)


@pytest.mark.parametrize("method", ["equitune", "canonical"])
def test_a_layer_that_is_replaced_is_trained_as_in_stock_dqn(method: str) -> None:
    model = agent({"method": method}, square_env(), tau=0.5)
    twin = stock_twin(model, "MlpPolicy", square_env())
    twin.tau = 0.5
    for learner in (model, twin):  # as for fine-tuning with a new last layer
        torch.manual_seed(3)
        learner.q_net.q_net[-1] = nn.Linear(16, 4)
        learner.q_net_target.q_net[-1] = nn.Linear(16, 4)
        learner.policy.optimizer = torch.optim.Adam(learner.q_net.parameters(), eps=GENTLE)
    assert_trained_alike(model, twin, 3, 16)
    model.target_update_interval = twin.target_update_interval = 1
    model._on_step()
    DQN._on_step(twin)
    assert_close(model.policy.state_dict(), twin.policy.state_dict())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_actions_of_any_integer_dtype_are_learned_from_as_in_stock_dqn(dtype: Any) -> None:
    def make_env() -> gym.Env[Any, Any]:
        env = Sampled(spaces.Box(-1, 1, (4,)), 2)
        env.action_space = spaces.Discrete(2, dtype=dtype)
        return SymmetryWrapper(env, {"mirror": (np.negative, [1, 0])})

    model = agent({"method": "equitune"}, make_env())
    assert model.replay_buffer.actions.dtype == dtype
    assert_trained_alike(model, stock_twin(model, "MlpPolicy", make_env()), 3, 16)


def test_a_loaded_agent_trains_on_as_in_stock_dqn(tmp_path: Any) -> None:
    first = agent({"method": "lambda"}, square_env())
    first.train(2, 8)
    first.save(tmp_path / "agent")
    model = EquivariantDQN.load(tmp_path / "agent", env=square_env(), device="cpu")
    model.replay_buffer = first.replay_buffer
    model._setup_learn(100)
    twin = stock_twin(model, "MlpPolicy", square_env())
    twin.policy.optimizer.load_state_dict(copy.deepcopy(first.policy.optimizer.state_dict()))
    twin.policy.optimizer.param_groups[0]["fused"] = False
    twin._n_updates = model._n_updates = 0
    assert_trained_alike(model, twin, 3, 8)


@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero", "canonical"])
def test_the_trivial_group_is_left_to_stock_training(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = SymmetryWrapper(Sampled(spaces.Box(-1, 1, (4,)), 4), {})
    model = agent({"method": method}, env)
    twin = copy.deepcopy(model)
    for learner in (model, twin):
        hand_out(learner, np.arange(96))

    def never(*_: Any) -> None:
        raise AssertionError("not SB3's own path")

    monkeypatch.setattr(EquivariantDQN, "_minibatches", never)
    monkeypatch.setattr(EquivariantDQN, "_update_target", never)
    model.target_update_interval = twin.target_update_interval = 1
    model.train(6, 16)
    model._on_step()
    DQN.train(twin, 6, 16)
    DQN._on_step(twin)
    for key, value in twin.policy.state_dict().items():
        assert torch.equal(value, model.policy.state_dict()[key]), key
    assert logged(model)["train/loss"] == logged(twin)["train/loss"]


def subnormals_are_flushed() -> bool:
    return float(torch.tensor(1e-40, dtype=torch.float32) * 1) == 0


@pytest.fixture
def flush_state() -> Iterator[None]:
    already = subnormals_are_flushed()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush")
    yield
    torch.set_flush_denormal(already)


class Failure(Exception):
    """What training is interrupted by."""


@pytest.mark.usefixtures("flush_state")
@pytest.mark.parametrize("already", [False, True], ids=["were-kept", "were-flushed"])
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_subnormal_numbers_are_flushed_in_training_and_then_as_before(
    already: bool, fails: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = agent({"method": "equitune"}, square_env())
    seen: list[bool] = []
    step = model._gradient_step

    def watched(batch: Any) -> Tensor:
        seen.append(subnormals_are_flushed())
        if fails and len(seen) == 2:
            raise Failure
        return step(batch)

    monkeypatch.setattr(model, "_gradient_step", watched)
    torch.set_flush_denormal(already)
    torch.set_default_dtype(dtype)
    try:
        if fails:
            with pytest.raises(Failure):
                model.train(3, 8)
        else:
            model.train(3, 8)
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen == [True] * (2 if fails else 3)
    assert subnormals_are_flushed() == already


@pytest.mark.usefixtures("flush_state")
@pytest.mark.parametrize("already", [False, True], ids=["were-kept", "were-flushed"])
def test_subnormal_numbers_are_as_before_when_the_buffer_fails(already: bool) -> None:
    model = agent({"method": "equitune"}, square_env())

    def fail(*_: Any, **__: Any) -> None:
        raise Failure

    model.replay_buffer.sample = fail  # type: ignore[method-assign,assignment]
    torch.set_flush_denormal(already)
    with pytest.raises(Failure):
        model.train(1, 8)
    assert subnormals_are_flushed() == already
