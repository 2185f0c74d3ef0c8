"""Acting and choosing in NumPy give the numbers of the reference, and happen where they may."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_forward_hook

from equirl.agents import (
    EquivariantA2C,
    EquivariantDQN,
    EquivariantMaskablePPO,
    EquivariantPPO,
    EquivariantQRDQN,
    EquivariantSAC,
    EquivariantTD3,
    EquivariantTQC,
)
from equirl.agents.shortcuts import few_rows

MIRROR = {"mirror": ([1, -1, -1], [-1])}
METHODS = ("equitune", "lambda", "equizero", "canonical")


def model_of(cls: type[Any], env: str, method: str, **options: Any) -> Any:
    symmetry = {"symmetry": MIRROR} if env == "Pendulum-v1" else {}
    size: Any = {} if cls in (EquivariantA2C, EquivariantPPO) else {"buffer_size": 10}
    model = cls("MlpPolicy", env, method, **symmetry, **size, **options, seed=0, device="cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.policy.parameters():  # weights of lambda that say something
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def switch(model: Any, on: bool) -> None:
    for network in model.policy.modules():
        if hasattr(network, "shortcuts"):
            network.shortcuts = on


def states(model: Any, count: int) -> torch.Tensor:
    """Random ones, and one that the mirror of both tasks fixes up to its first entry."""
    found = torch.randn(count, *model.observation_space.shape)
    found[-1] = 0
    return found


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_ppo_acts_as_the_reference_does(env: str, method: str, deterministic: bool) -> None:
    model = model_of(EquivariantPPO, env, method, n_steps=8, batch_size=8)
    found = []
    for on in (True, False):
        switch(model, on)
        torch.manual_seed(3)
        with torch.no_grad():
            found.append([model.policy(states(model, n), deterministic) for n in (1, 5)])
    for few, reference in zip(*found, strict=True):
        for mine, theirs in zip(few, reference, strict=True):
            assert mine.dtype == theirs.dtype
            torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cls", [EquivariantSAC, EquivariantTD3])
def test_actors_of_continuous_actions_act_as_the_reference_does(
    cls: type[Any], method: str
) -> None:
    model = model_of(cls, "Pendulum-v1", method)
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    found = []
    for on in (True, False):
        switch(model, on)
        torch.manual_seed(3)
        found.append([model.predict(observations, deterministic=d)[0] for d in (True, False)])
    np.testing.assert_allclose(*found, atol=2e-5)


@pytest.mark.covering(1)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_the_loss_and_its_gradient_are_those_of_the_reference(
    env: str, method: str, ties: bool
) -> None:
    model = model_of(EquivariantPPO, env, method, n_steps=8, batch_size=8)
    model.policy.set_training_mode(False)  # λ's running spread stays as it is
    points = states(model, 40) if ties else states(model, 40)[:-1]
    if env == "CartPole-v1":
        actions = torch.randint(0, 2, (len(points),))
    else:
        actions = torch.randn(len(points), 1)
    chooses = method in ("equizero", "canonical") and not ties
    assert (few_rows.actor_critic_of_chosen(model.policy, points) is not None) == chooses
    found = []
    for on in (True, False):
        switch(model, on)
        values, log_prob, entropy = model.policy.evaluate_actions(points, actions)
        loss = (values[:, 0] * log_prob).mean() + 0.3 * entropy.mean() + values.square().mean()
        parameters = list(model.policy.parameters())
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
        found.append([values, log_prob, entropy, *(slope for slope in slopes if slope is not None)])
    assert len(found[0]) == len(found[1])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("method", ["equizero", "canonical"])
def test_numbers_that_are_not_finite_are_refused_as_by_the_reference(method: str) -> None:
    model = model_of(EquivariantPPO, "CartPole-v1", method, n_steps=8, batch_size=8)
    with torch.no_grad():
        model.policy.action_net.bias[0] = torch.nan
    with pytest.raises(ValueError, match="logits"):
        model.policy.evaluate_actions(states(model, 5), torch.zeros(5, dtype=torch.int64))


def test_an_optimizer_that_is_asked_to_stays_as_it_is() -> None:
    """Of A2C, whose RMSprop takes one call for all parameters unless told otherwise."""
    options = {"foreach": False}
    model = model_of(EquivariantA2C, "CartPole-v1", "equitune", n_steps=8)
    assert model.policy.optimizer.defaults["foreach"]
    kwargs = {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": options}
    model = model_of(EquivariantA2C, "CartPole-v1", "equitune", policy_kwargs=kwargs)
    assert model.policy.optimizer.defaults["foreach"] is False


def test_it_is_taken_in_acting_and_in_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(EquivariantPPO, "CartPole-v1", "lambda", n_steps=8, batch_size=8)
    runs: list[int] = []
    run = few_rows.run
    monkeypatch.setattr(few_rows, "run", lambda *given: runs.append(1) or run(*given))

    def is_taken(count: int = 1) -> bool:
        runs.clear()
        model.policy(states(model, count))
        return bool(runs)

    with torch.no_grad():
        assert is_taken()
        assert not is_taken(few_rows.FEW_ROWS)
        switch(model, False)
        assert not is_taken()
        switch(model, True)
        handle = model.policy.mlp_extractor.policy_net[0].register_forward_hook(lambda *_: None)
        assert not is_taken()
        handle.remove()
        model.policy.mlp_extractor.policy_net[1] = nn.Sigmoid()
        assert not is_taken()
        model.policy.mlp_extractor.policy_net[1] = nn.Tanh()
        assert is_taken()
    assert not is_taken()  # as a gradient is asked for


ALGORITHMS: dict[type[Any], str] = {
    EquivariantDQN: "CartPole-v1",
    EquivariantQRDQN: "CartPole-v1",
    EquivariantPPO: "CartPole-v1",
    EquivariantSAC: "Pendulum-v1",
    EquivariantTD3: "Pendulum-v1",
    EquivariantTQC: "Pendulum-v1",
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["equitune", "equizero"])
@pytest.mark.parametrize(("cls", "env"), ALGORITHMS.items())
def test_a_hook_on_any_module_is_called_for_one_state_as_by_the_reference(
    cls: type[Any], env: str, method: str
) -> None:
    model = model_of(cls, env, method)
    state = np.full((1, *model.observation_space.shape), 0.1, np.float32)
    called: dict[bool, set[str]] = {True: set(), False: set()}
    for on, names in called.items():
        switch(model, on)
        for name, module in model.policy.named_modules():
            handle = module.register_forward_hook(lambda *_, n=name, to=names: to.add(n))
            model.predict(state, deterministic=True)
            handle.remove()
    assert called[True] == called[False]
    assert len(called[True]) > 5


@pytest.mark.covering(1)
@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize(("cls", "env"), ALGORITHMS.items())
def test_a_hook_on_all_modules_is_called(cls: type[Any], env: str, on: bool) -> None:
    model, called = model_of(cls, env, "equitune"), set()
    switch(model, on)
    state = np.full((1, *model.observation_space.shape), 0.1, np.float32)
    handle = register_module_forward_hook(lambda module, *_: called.add(type(module)))
    model.predict(state, deterministic=True)
    handle.remove()
    assert torch.nn.Linear in called


@pytest.mark.parametrize("method", ["equitune", "equizero", "canonical"])
def test_tangents_are_carried_forward(method: str) -> None:
    model = model_of(EquivariantPPO, "CartPole-v1", method)
    state, found = states(model, 2)[:1], []
    for on in (True, False):
        switch(model, on)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(state, torch.ones_like(state))
            found.append(forward_ad.unpack_dual(model.policy.predict_values(dual)).tangent)
    assert found[0] is not None
    torch.testing.assert_close(*found)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cls", [EquivariantPPO, EquivariantMaskablePPO])
def test_features_of_a_users_own_are_those_of_acting_and_of_training(
    cls: type[Any], method: str
) -> None:
    class Larger(cls.equivariant_policy):  # type: ignore[misc,name-defined]  # of either kind
        def extract_features(self, obs: Any, *given: Any) -> Any:
            return 10 * super().extract_features(obs, *given)

    model = cls(Larger, "CartPole-v1", method, n_steps=8, batch_size=8, seed=0, device="cpu")
    policy, state = model.policy, states(model, 1)
    reference = cls("MlpPolicy", "CartPole-v1", method, n_steps=8, batch_size=8, device="cpu")
    reference.policy.load_state_dict(policy.state_dict())
    action = torch.zeros(1, dtype=torch.int64)
    expected = reference.policy.evaluate_actions(10 * state, action)
    for on in (True, False):
        switch(model, on)
        with torch.no_grad():
            acting = policy.evaluate_actions(state, action)
        for found in (acting, policy.evaluate_actions(state, action)):
            for mine, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


def test_what_a_subclass_overrides_is_called() -> None:
    model = model_of(EquivariantPPO, "CartPole-v1", "equitune", n_steps=8, batch_size=8)

    class Shifted(type(model.policy)):  # type: ignore[misc]  # a class of the model's own
        def _outputs(self, latents: Any) -> torch.Tensor:
            outputs: torch.Tensor = super()._outputs(latents)
            return outputs + 1

    state = states(model, 2)
    with torch.no_grad():
        values = model.policy(state)[1]
        model.policy.__class__ = Shifted
        torch.testing.assert_close(model.policy(state)[1], values + 1)


def test_the_switch_of_the_algorithm_reaches_every_network() -> None:
    env = gym.make("Pendulum-v1")
    model = EquivariantSAC("MlpPolicy", env, symmetry=MIRROR, buffer_size=10, shortcuts=False)
    assert not model.actor.shortcuts
    assert not model.critic.shortcuts
