"""Lambda lies between equitune and equizero, and learns where."""

from typing import Any

import numpy as np
import pytest
import torch

from equirl import GroupAction, Symmetrized
from equirl.groups import cyclic, dihedral
from equirl.symmetrize.weightings import (
    INFINITE_BETA,
)
from shared.representations import GROUPS, output_action, signed_action, size
from shared.symmetrized_models import mlp, small_cnn, square_of_images


@pytest.mark.parametrize("group", GROUPS, ids=repr)
def test_lambda_starts_at_either_end(group):
    rng = np.random.default_rng(0)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(0)
    network = mlp(size(into), size(out))
    x = torch.randn(16, size(into))

    def of(method: str, **options: Any) -> Symmetrized:
        return Symmetrized(network, into, out, method, feature_dim=size(out), **options)

    average, choice = of("equitune"), of("equizero")
    from_average, from_choice = of("lambda", init="equitune"), of("lambda", init="equizero")
    assert torch.allclose(from_average(x), average(x), rtol=0, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(from_choice(x), choice(x))
        assert torch.equal(from_choice.branches(x).weights, choice.branches(x).weights)
    assert torch.allclose(from_choice(x), choice(x), rtol=0, atol=1e-6)  # measured spread included
    assert torch.equal(from_choice.eval().branches(x).weights, choice.branches(x).weights)


@pytest.mark.parametrize("init", ["equitune", "equizero"])
@pytest.mark.parametrize("group", [cyclic(2), dihedral(4)], ids=repr)
def test_both_starts_of_lambda_learn_beta_and_h(init, group):
    rng = np.random.default_rng(3)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(0)
    network = mlp(size(into), size(out))
    model = Symmetrized(network, into, out, "lambda", feature_dim=size(out), init=init)
    x, target = torch.randn(64, size(into)), torch.randn(64, size(out))
    optimizer = torch.optim.SGD(model.weighting.parameters(), lr=1e-2)
    for _ in range(2):  # h starts at zero: its first layer learns from the second step on
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert float(model.weighting.asinh_beta.grad.abs()) > 1e-7
        assert float(model.weighting.h[-1].weight.grad.abs().max()) > 1e-7
        optimizer.step()
    assert float(model.weighting.h[0].weight.grad.abs().max()) > 0


def test_lambda_moves_from_equitune_to_equizero_as_beta_grows():
    into, out = square_of_images()
    torch.manual_seed(0)
    network, x = small_cnn().eval(), torch.randn(9, 2, 6, 6)
    choice = Symmetrized(network, into, out, "equizero")
    soft = Symmetrized(network, into, out, "lambda", feature_dim=4).eval()
    entropies, distances = [], []
    with torch.no_grad():
        soft.weighting.running_score_spread.fill_(
            float(choice.branches(x).values.amax(-1).std(0).mean())
        )
        for beta in (0.0, 0.5, 2.0, 8.0, INFINITE_BETA - 0.1, INFINITE_BETA + 0.1):
            soft.weighting.asinh_beta.fill_(float(np.arcsinh(beta)))
            weights = soft.branches(x).weights
            entropies.append(float(-(weights * weights.clamp(min=1e-30).log()).sum(0).mean()))
            distances.append(float((soft(x) - choice(x)).abs().mean()))
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[0] == pytest.approx(np.log(8), abs=1e-6)
    assert entropies[-1] == distances[-1] == 0


def test_the_spread_of_scores_makes_beta_mean_the_same_at_every_scale():
    group = cyclic(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    torch.manual_seed(0)
    network, x = mlp(4, 4), torch.randn(32, 4)
    weights = []
    for scale in (0.01, 1.0, 100.0):
        model = Symmetrized(
            lambda rows, s=scale: s * network(rows), into, into, "lambda", feature_dim=4
        )
        with torch.no_grad():
            model.weighting.asinh_beta.fill_(1.0)
        model(x)  # training: measures the spread
        weights.append(model.branches(x).weights)
    assert torch.allclose(weights[0], weights[1], atol=1e-4)
    assert torch.allclose(weights[2], weights[1], atol=1e-4)


@pytest.mark.parametrize("spoilt", [[], [float("inf")] * 4, [float("nan"), 1, 2, 3]])
def test_the_spread_is_not_spoilt_by_an_empty_batch_or_numbers_that_are_not_finite(spoilt):
    group = cyclic(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    torch.manual_seed(0)
    network, x = mlp(4, 4), torch.randn(32, 4)
    model = Symmetrized(network, into, into, "lambda", feature_dim=4)
    for _ in range(2):  # as the first batch, and later
        before = model.weighting.running_score_spread.clone()
        model(torch.tensor(spoilt).reshape(-1, 4))
        assert torch.equal(model.weighting.running_score_spread, before)
        model(x)
        assert 0 < float(model.weighting.running_score_spread) < 10


def test_of_a_model_in_double_precision_the_weights_are_too():
    group = cyclic(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    for method in ("lambda", "relaxed"):
        model = Symmetrized(mlp(4, 4).double(), into, into, method, feature_dim=4).eval()
        with torch.no_grad():
            for parameter in model.weighting.parameters():
                parameter.normal_()
        x = torch.randn(5, 4, dtype=torch.float64)
        assert model(x).dtype == torch.float64
        if method == "lambda":
            gap = model(into.transform(1, x)) - into.transform(1, model(x))
            assert gap.abs().max() < 1e-12
