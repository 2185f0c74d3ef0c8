"""Acting in NumPy gives the numbers of the reference, and is not taken where it must not be."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from equirl.agents import EquivariantPPO, EquivariantSAC, EquivariantTD3
from equirl.agents.shortcuts import few_rows

MIRROR = {"mirror": ([1, -1, -1], [-1])}
METHODS = ("equitune", "lambda", "equizero", "canonical")


def model_of(cls: type[Any], env: str, method: str, **options: Any) -> Any:
    symmetry = {"symmetry": MIRROR} if env == "Pendulum-v1" else {}
    size = {} if cls is EquivariantPPO else {"buffer_size": 10}
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


def test_it_is_taken_in_acting_and_in_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(EquivariantPPO, "CartPole-v1", "equizero", n_steps=8, batch_size=8)
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
