"""`orbit_samples`: equitune estimated from a part of the orbit, without bias."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from equirl import Symmetrized
from equirl.groups import dihedral
from shared.representations import output_action, signed_action, size
from shared.symmetrized_models import mlp


def estimated(k: int) -> Symmetrized:
    rng = np.random.default_rng(0)
    into, out = signed_action(dihedral(4), rng), output_action(dihedral(4), rng)
    torch.manual_seed(0)
    network = mlp(size(into), size(out))
    return Symmetrized(network, into, out, "equitune", orbit_samples=k).double()


def whole(model: Symmetrized) -> Symmetrized:
    return Symmetrized(model.model, model.input_action, model.output_action, "equitune")


def test_without_a_gradient_the_whole_orbit_counts():
    model = estimated(2)
    x = torch.randn(5, size(model.input_action)).double()
    with torch.no_grad():
        assert torch.equal(model(x), whole(model)(x))


@pytest.mark.parametrize("k", [8, 100])
def test_a_sample_of_the_whole_orbit_is_no_sample(k):
    model = estimated(k)
    x = torch.randn(5, size(model.input_action)).double()
    assert torch.equal(model(x), whole(model)(x))


@pytest.mark.parametrize("k", [1, 3])
def test_every_estimate_is_the_mean_over_some_k_different_branches(k):
    model = estimated(k)
    x = torch.randn(6, size(model.input_action)).double()
    values = model.branches(x).values
    means = torch.stack([values[list(s)].mean(dim=0) for s in combinations(range(8), k)])
    distance = (means - model(x)).abs().amax(dim=2).amin(dim=0)
    assert distance.max() < 1e-12


@pytest.mark.parametrize("k", [1, 3])
def test_value_and_gradient_are_right_on_average(k):
    model = estimated(k)
    x = torch.randn(1, size(model.input_action)).double()
    many = x.expand(20_000, -1)
    estimates = model(many)
    exact = whole(model)(x)
    error = estimates.std(dim=0) / 20_000**0.5
    assert ((estimates.mean(dim=0) - exact[0]).abs() < 5 * error).all()

    parameter = next(model.parameters())
    (mean_gradient,) = torch.autograd.grad(estimates.mean(dim=0).sum(), parameter)
    (gradient,) = torch.autograd.grad(exact.sum(), parameter)
    assert torch.allclose(mean_gradient, gradient, atol=0.05 * float(gradient.abs().max()))


def test_each_input_draws_its_own_elements_and_the_seed_decides():
    model = estimated(1)
    x = torch.randn(1, size(model.input_action)).double().expand(50, -1)
    torch.manual_seed(1)
    first = model(x)
    assert len(first.detach().unique(dim=0)) > 1
    torch.manual_seed(1)
    assert torch.equal(model(x), first)
