"""What a user overrides or hooks into is called in training, and no shortcut passes it over."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor

from equirl.agents import DoubleDQN, EquivariantDQN, MirrorLossDQN
from equirl.agents.shortcuts import training
from equirl.envs import SymmetryWrapper
from shared.policy_tasks import VARIANTS
from shared.sampled import Sampled
from shared.small_agents import SMALL, cartpole
from shared.stock_twins import agent, hand_out, logged, square_env

EVERY_GROUP: dict[int, Callable[[], gym.Env[Any, Any]]] = {
    1: lambda: SymmetryWrapper(Sampled(spaces.Box(-1, 1, (4,)), 4), {}),
    2: lambda: SymmetryWrapper(
        Sampled(spaces.Box(-1, 1, (4,)), 4), {"half turn": (np.negative, [2, 3, 0, 1])}
    ),
    8: square_env,
}
every_group = pytest.mark.parametrize("order", EVERY_GROUP)


def remember(model: Any, name: str, sample: Any) -> None:
    vars(model).setdefault("calls", []).append((name, len(sample.actions)))


class OwnLoss:
    """A mixin, as users write them."""

    def loss(self, sample: Any, targets: Tensor) -> Tensor:
        remember(self, "loss", sample)
        return 2 * super().loss(sample, targets)


class OwnTargets:
    def targets(self, sample: Any) -> Tensor:
        remember(self, "targets", sample)
        return super().targets(sample) + 1


class OwnBoth(OwnLoss, OwnTargets):
    pass


OVERRIDES = {OwnLoss: {"loss"}, OwnTargets: {"targets"}, OwnBoth: {"loss", "targets"}}


@pytest.mark.covering(2)
@every_group
@pytest.mark.parametrize("own", OVERRIDES)
@pytest.mark.parametrize("options", [{}, {"bf16": True}, {"double_q": True}], ids=str)
def test_an_overridden_hook_is_called_for_every_minibatch(
    order: int, own: type, options: dict[str, Any]
) -> None:
    cls = type("Own", (own, EquivariantDQN), {})
    model = cls(
        "MlpPolicy", EVERY_GROUP[order](), learning_starts=10, train_freq=10, gradient_steps=3,
        batch_size=8, **{k: v for k, v in SMALL.items() if k != "learning_starts"}, **options,
    )  # fmt: skip
    assert model.symmetry.group.order == order
    model.learn(20)
    assert set(model.calls) == {(name, 8) for name in OVERRIDES[own]}
    assert len(model.calls) == 3 * len(OVERRIDES[own]) * (model._n_updates // 3)
    assert not model.has_standard_loss


@pytest.mark.parametrize("own", OVERRIDES)
@pytest.mark.parametrize("base", [DoubleDQN, MirrorLossDQN])
def test_baselines_call_an_overridden_hook(own: type, base: type[DoubleDQN]) -> None:
    model = type("Own", (own, base), {})("MlpPolicy", cartpole(), double_q=False, **SMALL)
    model.learn(60)
    assert {name for name, _ in model.calls} == OVERRIDES[own]


@every_group
def test_a_hook_is_called_where_it_is_the_instances_own(order: int) -> None:
    model = agent({"method": "equitune"}, EVERY_GROUP[order]())
    before = copy.deepcopy(model.policy.state_dict())
    model.loss = lambda sample, targets: 0 * EquivariantDQN.loss(model, sample, targets)
    model.train(3, 8)
    assert logged(model)["train/loss"] == 0
    assert all(torch.equal(value, before[key]) for key, value in model.policy.state_dict().items())


def test_an_overridden_train_is_called() -> None:
    class Own(EquivariantDQN):
        def train(self, gradient_steps: int, batch_size: int = 100) -> None:
            vars(self).setdefault("calls", []).append(gradient_steps)
            super().train(gradient_steps, batch_size)

    model = Own("MlpPolicy", cartpole(), gradient_steps=2, **SMALL).learn(60)
    assert set(model.calls) == {2}
    assert model._n_updates == 2 * len(model.calls)


@pytest.mark.parametrize("name", ["q_net", "q_net.q_net.0", "q_net_target", "q_net.symmetrized"])
def test_a_hook_on_the_networks_hears_of_every_minibatch(name: str) -> None:
    model = agent({"method": "equitune"}, square_env())
    heard: list[int] = []
    model.policy.get_submodule(name).register_forward_hook(lambda *_: heard.append(1))
    model.train(3, 8)
    assert len(heard) == 3


class OwnBuffer(ReplayBuffer):
    """Of which no shortcut knows what it does with the size of a batch."""

    def sample(self, batch_size: int, env: Any = None) -> Any:
        vars(self).setdefault("sizes", []).append(batch_size)
        return super().sample(batch_size, env)


TURN_AWAY: dict[str, Callable[[EquivariantDQN], Any]] = {
    "the switch": lambda m: setattr(m, "shortcuts", False),
    "a hook on a layer": lambda m: m.q_net.q_net[0].register_forward_hook(lambda *_: None),
    "a hook on the target": lambda m: m.q_net_target.register_forward_pre_hook(lambda *_: None),
    "another forward": lambda m: setattr(m.q_net, "forward", m.q_net.forward),
    "a hook on a gradient": lambda m: m.q_net.q_net[0].weight.register_hook(lambda g: 2 * g),
    "a hook after a gradient": lambda m: m.q_net.q_net[0].bias.register_post_accumulate_grad_hook(
        lambda p: None
    ),
    "a hook before a step": lambda m: m.policy.optimizer.register_step_pre_hook(lambda *_: None),
    "a hook after a step": lambda m: m.policy.optimizer.register_step_post_hook(lambda *_: None),
    "a scheduler": lambda m: torch.optim.lr_scheduler.StepLR(m.policy.optimizer, 1),
    "a buffer's own sample": lambda m: setattr(m.replay_buffer, "__class__", OwnBuffer),
    "a loss": lambda m: setattr(m, "loss", m.loss),
}


@pytest.mark.parametrize("change", TURN_AWAY.values(), ids=list(TURN_AWAY))
def test_no_shortcut_is_taken_where_somebody_would_notice(
    change: Callable[[EquivariantDQN], Any],
) -> None:
    model = agent({"method": "equitune"}, square_env())
    assert training.may_take_shortcuts(model)
    change(model)
    assert not training.may_take_shortcuts(model)
    model.train(2, 8)
    assert vars(model.replay_buffer).get("sizes", [8, 8]) == [8, 8]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_without_shortcuts_training_is_that_of_stock_dqn_bit_for_bit(
    variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(training, "ClosedForm")  # whatever asked for it would fail
    model = agent(variant, square_env(), shortcuts=False)
    twin = copy.deepcopy(model)
    for learner in (model, twin):
        hand_out(learner, np.random.default_rng(5).integers(0, 96, 80))
    model.train(5, 16)
    DQN.train(twin, 5, 16)
    assert logged(model)["train/loss"] == pytest.approx(logged(twin)["train/loss"], rel=1e-6)
    for key, value in twin.policy.state_dict().items():
        assert torch.equal(model.policy.state_dict()[key], value), key


def test_the_switch_is_saved_and_reaches_the_choice_of_actions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EquivariantDQN("MlpPolicy", cartpole(), "equizero", shortcuts=False, **SMALL).save(
        tmp_path / "agent"
    )
    loaded = EquivariantDQN.load(tmp_path / "agent", device="cpu")
    assert not loaded.shortcuts

    def taken(*_: Any) -> None:
        raise AssertionError("the shortcut was taken")

    monkeypatch.setattr("equirl.agents.dqn.policies.greedy_action", taken)
    loaded.predict(np.zeros(4, np.float32), deterministic=True)
    quick = EquivariantDQN.load(tmp_path / "agent", device="cpu", shortcuts=True)
    with pytest.raises(AssertionError, match="the shortcut was taken"):
        quick.predict(np.zeros(4, np.float32), deterministic=True)


@pytest.mark.parametrize("cls", [EquivariantDQN, DoubleDQN, MirrorLossDQN])
def test_an_agent_of_n_steps_is_loaded_without_a_warning(
    cls: type[DoubleDQN], tmp_path: Path
) -> None:
    model = cls("MlpPolicy", cartpole(), n_steps=3, **SMALL)
    model.save(tmp_path / "agent")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = cls.load(tmp_path / "agent", env=cartpole(), device="cpu")
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    assert (loaded.replay_buffer.n_steps, loaded.replay_buffer.gamma) == (3, model.gamma)
    with pytest.warns(UserWarning, match="n_steps=5"):  # which is indeed ignored
        cls.load(tmp_path / "agent", device="cpu", n_steps=5)
