"""Where a device has to be waited for, on tensors that have a device and no numbers.

A forward pass is tried on fake tensors of ``cuda``; what a CPU build of PyTorch cannot do there,
and a training step, is tried on ``meta``. Mixed devices fail on both, and so does looking at
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution
from torch.func import functional_call

from equirl.agents.families import FAMILIES, class_of
from equirl.agents.sac.sac import SoftActorCritic
from equirl.agents.td3.td3 import TwinDelayed

BATCH = 5
DISCRETE = ("dqn", "qrdqn", "ppo", "a2c", "maskable_ppo")
METHODS = ("equitune", "lambda", "equizero", "canonical")

WAITS = {"acting": ("canonical",), "training": ("equizero", "canonical")}
"""The methods that run a network on the chosen points alone, and so have to count them."""


@pytest.fixture(autouse=True)
def _unchecked_distributions() -> Iterator[None]:
    """PyTorch's own check of the parameters of a distribution waits, for stock agents too."""
    was = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    yield
    Distribution.set_default_validate_args(was)


def agent(name: str, method: str) -> Any:
    family = FAMILIES[name]
    if family.stock.startswith("sb3_contrib"):
        pytest.importorskip("sb3_contrib")
    kwargs: dict[str, Any] = {"n_steps": 8} if family.is_on_policy else {"buffer_size": 8}
    kwargs |= {"batch_size": 8} if name == "ppo" else {}
    # Declared here, as what fake tensors leave behind in a symmetry must not meet real ones.
    mirror = ([-1, -1, -1, -1], [1, 0]) if name in DISCRETE else ([1, -1, -1], [-1])
    kwargs["symmetry"] = {"mirror": mirror}
    env = "CartPole-v1" if name in DISCRETE else "Pendulum-v1"
    return class_of(family.equivariant)("MlpPolicy", env, method, device="cpu", **kwargs)


class Moved(nn.Module):
    """A function that uses a policy, as a module, so that `functional_call` can move the policy."""

    def __init__(self, policy: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.policy, self.function = policy, function

    def forward(self, *given: Tensor) -> Any:
        return self.function(*given)


def run_on(device: str, model: Any, function: Callable[..., Any], *shapes: tuple[int, ...]) -> Any:
    """The function of empty tensors, with the policy's parameters on the device."""
    policy = model.policy
    named = [*policy.named_parameters(), *policy.named_buffers()]
    tensors = {
        f"policy.{name}": torch.empty(
            part.shape, dtype=part.dtype, device=device, requires_grad=part.requires_grad
        )
        for name, part in named
    }
    given = tuple(torch.empty(shape, device=device) for shape in shapes)
    return functional_call(Moved(policy, function), tensors, given)


def act(model: Any) -> str:
    """Where the actions are."""

    def greedy(observations: Tensor) -> Tensor:
        with torch.no_grad():
            actions: Tensor = model.policy._predict(observations, deterministic=True)
        return actions

    shape = (BATCH, *model.observation_space.shape)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return str(run_on("cuda", model, greedy, shape).device.type)
    except (RuntimeError, AssertionError) as error:
        if "not linked with support for cuda" not in str(error):
            raise
    return str(run_on("meta", model, greedy, shape).device.type)


def train(model: Any) -> None:
    """The losses of one gradient step and their backward passes, on ``meta``."""
    model.policy.set_training_mode(True)
    is_discrete = not model.action_space.shape

    def losses(observations: Tensor, actions: Tensor, one: Tensor) -> Iterator[Tensor]:
        if is_discrete:
            actions = actions.long()
        if isinstance(model, OnPolicyAlgorithm):
            found = model.policy.evaluate_actions(observations, actions.squeeze(1))
            yield sum(part.sum() for part in found)
            return
        sample = ReplayBufferSamples(observations, actions, observations, one, one)
        if isinstance(model, SoftActorCritic):
            weighed = model.weigh(observations)
            drawn = model.act(observations, weighed)
            yield model.critic_loss(sample, model.targets(sample, one[0, 0]), weighed)
            yield model.actor_loss(sample, *drawn, one[0, 0], weighed)
        elif isinstance(model, TwinDelayed):
            weighed = model.weigh(model.actor, observations)
            yield model.critic_loss(sample, model.targets(sample), weighed)
            yield model.actor_loss(sample, weighed)
        elif hasattr(model, "targets"):
            yield model.loss(sample, model.targets(sample))
        else:
            yield model.quantile_net(observations).sum()

    def step(*given: Tensor) -> None:
        for loss in losses(*given):
            torch.autograd.backward(loss, retain_graph=True)

    shape = (BATCH, *model.observation_space.shape)
    run_on("meta", model, step, shape, (BATCH, 1), (BATCH, 1))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("dqn", "ppo", "sac", "td3") else pytest.mark.slow)
        for name in FAMILIES
    ],
)
@pytest.mark.parametrize(("what", "run"), [("acting", act), ("training", train)])
def test_a_device_is_waited_for_where_the_documentation_says_so(
    what: str, run: Callable[[Any], Any], name: str, method: str
) -> None:
    model = agent(name, method)
    if method not in WAITS[what]:
        assert run(model) in (None, "cuda", "meta")
        return
    with pytest.raises((NotImplementedError, RuntimeError), match="nonzero"):
        run(model)
