"""`ClosedForm` gives the loss and the gradient that autograd gives, and knows where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from stable_baselines3.common.buffers import ReplayBufferSamples
from torch import nn

from equirl.agents import EquivariantDQN
from equirl.agents.shortcuts.closed_form import ClosedForm
from shared.small_agents import METHODS
from shared.stock_twins import BatchNormed, agent, image_env, square_env

WRITTEN_OUT: dict[str, dict[str, Any]] = {
    "equitune": {"method": "equitune"},
    "lambda": {"method": "lambda"},
    "lambda-from-equizero": {"method": "lambda", "init": "equizero"},
    "equizero": {"method": "equizero"},
    "canonical": {"method": "canonical"},
}
Minibatch = tuple[ReplayBufferSamples, torch.Tensor]
every_variant = pytest.mark.parametrize("variant", WRITTEN_OUT.values(), ids=list(WRITTEN_OUT))


def precise(variant: dict[str, Any], net_arch: list[int]) -> EquivariantDQN:
    """In double precision, with β and h of their own."""
    model = agent(variant, square_env(), policy_kwargs={"net_arch": net_arch})
    model.q_net.double()
    # SB3 makes single precision of every observation.
    model.q_net.extract_features = lambda obs, extractor: extractor(obs)
    model.policy.set_training_mode(True)
    weighting = model.q_net.symmetrized.weighting
    if weighting is not None:
        torch.manual_seed(4)
        with torch.no_grad():
            weighting.running_score_spread.fill_(0.1)
            for parameter in weighting.h.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def minibatch(size: int, stabilised: bool) -> Minibatch:
    """Some of its observations lie on a mirror or in the centre where that is asked for."""
    torch.manual_seed(3)
    observations = torch.randn(size, 4).double()
    if stabilised:
        observations[::2, [1, 3]] = 0
        observations[::3] = 0
    actions = torch.randint(0, 4, (size, 1))
    targets = 3 * torch.randn(size, 1).double()  # errors on both sides of one
    return ReplayBufferSamples(observations, actions, observations, targets, targets), targets


def closed_form(model: EquivariantDQN) -> ClosedForm | None:
    return ClosedForm.of(model.q_net, model.policy.optimizer.param_groups[0]["params"])


def assert_same_as_autograd(model: EquivariantDQN, batch: Minibatch) -> None:
    start = {key: value.clone() for key, value in model.q_net.state_dict().items()}
    expected_loss = model.loss(*batch)
    model.policy.optimizer.zero_grad()
    expected_loss.backward()
    expected = {name: p.grad.clone() for name, p in model.q_net.named_parameters()}
    measured = {key: value.clone() for key, value in model.q_net.state_dict().items()}
    model.q_net.load_state_dict(start)

    closed = closed_form(model)
    assert closed is not None
    rows = closed.rows(*batch)
    assert rows is not None
    loss = closed.loss(rows)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-12, atol=0)
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    assert scale > 1e-3
    for name, parameter in model.q_net.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name], rtol=1e-9, atol=1e-12 * scale, msg=name
        )
    flat = torch.cat([p.grad.flatten() for p in model.q_net.parameters()])
    assert torch.equal(closed.gradient, flat)
    for key, value in model.q_net.state_dict().items():  # the measured spread
        torch.testing.assert_close(value, measured[key], rtol=1e-6, atol=0, msg=key)


@pytest.mark.covering(1)
@every_variant
@pytest.mark.parametrize("net_arch", [[], [16], [16, 8]], ids=str)
@pytest.mark.parametrize("size", [1, 30])
def test_loss_and_gradient_are_those_of_autograd(
    variant: dict[str, Any], net_arch: list[int], size: int
) -> None:
    model = precise(variant, net_arch)
    assert_same_as_autograd(model, minibatch(size, stabilised=False))


@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero"])
def test_loss_and_gradient_are_those_of_autograd_where_scores_tie(method: str) -> None:
    model = precise({"method": method}, [16])
    batch = minibatch(30, stabilised=True)
    with torch.no_grad():
        weights = model.q_net.symmetrized.branches(batch[0].observations).weights
    if method == "equizero":
        assert set((weights != 0).sum(dim=0).tolist()) >= {1, 2, 8}
    assert_same_as_autograd(model, batch)


@pytest.mark.parametrize("asinh_beta", [-2.0, 0.0, 2.0, 3.8])
def test_lambda_learns_as_with_autograd_from_any_beta(asinh_beta: float) -> None:
    model = precise({"method": "lambda"}, [16])
    with torch.no_grad():
        model.q_net.symmetrized.weighting.asinh_beta.fill_(asinh_beta)
    batch = minibatch(30, stabilised=True)
    assert_same_as_autograd(model, batch)
    assert float(model.q_net.symmetrized.weighting.asinh_beta.grad) != 0


def test_the_first_spread_is_taken_whole_and_later_ones_by_a_hundredth() -> None:
    model = precise({"method": "lambda"}, [16])
    weighting = model.q_net.symmetrized.weighting
    scores = torch.tensor([[1.0, 2.0], [3.0, 8.0]])  # variances 1 and 9
    weighting.running_score_spread.zero_()
    weighting.measure_spread(scores)
    assert float(weighting.running_score_spread) == pytest.approx(5**0.5)
    weighting.measure_spread(scores * 3)
    assert float(weighting.running_score_spread) == pytest.approx(5**0.5 * 1.02)


def test_canonical_leaves_what_it_has_to_share_to_autograd() -> None:
    model = precise({"method": "canonical"}, [16])
    batch = minibatch(30, stabilised=True)
    closed = closed_form(model)
    assert closed is not None
    assert closed.rows(*batch) is None


@pytest.mark.parametrize("method", METHODS)
def test_training_is_written_out_where_it_can_be(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    loss = ClosedForm.loss

    def watched(closed: ClosedForm, rows: Any) -> torch.Tensor:
        calls.append(1)
        return loss(closed, rows)

    monkeypatch.setattr(ClosedForm, "loss", watched)
    agent({"method": method}, square_env()).train(3, 8)
    assert len(calls) == 3
    kwargs = {"features_extractor_class": BatchNormed}
    agent({"method": method}, square_env(), policy_kwargs=kwargs).train(3, 8)
    assert len(calls) == 3


REFUSED: dict[str, Callable[[EquivariantDQN], Any]] = {
    "a frozen layer": lambda m: m.q_net.q_net[0].requires_grad_(False),
    "another activation": lambda m: m.q_net.q_net.__setitem__(1, nn.Tanh()),
    "a layer that the optimizer does not know": lambda m: m.q_net.q_net.__setitem__(
        2, nn.Linear(16, 4)
    ),
    "half precision": lambda m: m.q_net.bfloat16(),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=list(REFUSED))
def test_other_networks_are_left_to_autograd(change: Callable[[EquivariantDQN], Any]) -> None:
    model = agent({"method": "equitune"}, square_env())
    assert closed_form(model) is not None
    change(model)
    assert closed_form(model) is None


@pytest.mark.parametrize(
    "variant",
    [
        {"method": "equizero", "gradient": "straight_through"},
        {"method": "canonical", "canonical_score": "learned"},
        {"method": "equitune", "orbit_samples": 2},
    ],
    ids=str,
)
def test_variants_that_are_not_written_out_are_left_to_autograd(variant: dict[str, Any]) -> None:
    assert closed_form(agent(variant, square_env())) is None


def test_images_are_left_to_autograd() -> None:
    model = agent({"method": "equitune"}, image_env(), buffer_size=100)
    closed = closed_form(model)
    assert closed is not None  # a perceptron, of flattened images
    sample = model.replay_buffer.sample(4)
    targets = torch.zeros(4, 1)
    assert closed.rows(sample, targets) is None
    model.train(2, 4)
