"""`Perceptron` and `run_layers` compute what PyTorch's modules and autograd compute."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from equirl.agents.shortcuts.perceptron import NARROW, Perceptron, run_layers


def chain(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for entries, outputs in pairwise(widths):
        layers += [nn.Linear(entries, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize(
    "widths",
    [(5, 3), (1, 1), (NARROW - 1, 6, 4), (NARROW, 6, 4), (20, 16, 8, 2), (3, 1, 5)],
    ids=str,
)
def test_value_and_gradient_are_those_of_autograd(widths: tuple[int, ...], rows: int) -> None:
    network = chain(*widths)
    x, slope = torch.randn(rows, widths[0]).double(), torch.randn(rows, widths[-1]).double()
    result = network(x)
    result.backward(slope)
    expected = [p.grad for p in network.parameters()]
    for p in network.parameters():
        p.grad = torch.full_like(p, torch.nan)  # to be overwritten, not added to
    perceptron = Perceptron.of(network)
    assert perceptron is not None
    before = x.clone()
    with torch.no_grad():
        given = perceptron.forward(x)
        perceptron.backward(given[:-1], slope)
    assert torch.equal(given[-1], result)
    assert torch.equal(x, before)
    for p, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-12, atol=1e-14)


def test_units_that_are_exactly_zero_have_no_gradient_as_in_autograd() -> None:
    network = chain(2, 3, 1)
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    perceptron = Perceptron.of(network)
    assert perceptron is not None
    for p in network.parameters():
        p.grad = torch.empty_like(p)
    with torch.no_grad():
        perceptron.backward(
            perceptron.forward(torch.ones(4, 2).double()), torch.ones(4, 1).double()
        )
    assert (network[0].bias.grad != 0).tolist() == [False, True, False]


class Shifted(nn.Linear):
    """Not what `nn.Linear` computes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


@pytest.mark.parametrize(
    "modules",
    [
        [],
        [nn.ReLU()],
        [nn.Linear(3, 3), nn.ReLU()],
        [nn.Linear(3, 3), nn.Linear(3, 3)],
        [nn.ReLU(), nn.Linear(3, 3)],
        [nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)],
        [nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3)],
        [nn.Linear(3, 3, bias=False)],
        [Shifted(3, 3)],
    ],
    ids=lambda modules: "-".join(type(module).__name__ for module in modules) or "nothing",
)
def test_anything_else_is_no_perceptron(modules: list[nn.Module]) -> None:
    assert Perceptron.of(modules) is None
    if modules:
        torch.manual_seed(0)
        x = torch.randn(5, 3)
        assert torch.equal(run_layers(modules, x.clone()), nn.Sequential(*modules)(x))


@pytest.mark.parametrize("grad", [True, False])
def test_layers_run_bit_for_bit_as_their_modules_do(grad: bool) -> None:
    network, x = chain(4, 16, 16, 2), torch.randn(6, 4).double()
    with torch.set_grad_enabled(grad):
        expected, actual = network(x), run_layers(network, x)
    assert torch.equal(actual, expected)
    if grad:
        parameters = list(network.parameters())
        pairs = zip(
            torch.autograd.grad(actual.sum(), parameters),
            torch.autograd.grad(expected.sum(), parameters),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in pairs)


def test_running_layers_overwrites_nothing_that_it_did_not_make() -> None:
    x = torch.tensor([[-1.0, 2.0]])
    seen: list[Tensor] = []
    listening = nn.Linear(2, 2)
    listening.register_forward_hook(lambda module, given, result: seen.append(result))
    for first in (nn.Identity(), listening):
        with torch.no_grad():
            run_layers([nn.ReLU(), first, nn.ReLU()], x)
    assert x.tolist() == [[-1.0, 2.0]]
    assert torch.equal(seen[0], nn.functional.linear(x.relu(), listening.weight, listening.bias))
