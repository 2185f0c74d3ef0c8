"""Relaxed: M_R = (1 − α) M_G + α M, with α = 0 until M is seen to be better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized
from equirl.groups import cyclic
from equirl.symmetrize import RelaxedWeighting, alpha_of, relaxation
from equirl.symmetrize.relaxing import FLOOR, PRIOR, let_go
from equirl.testing import assert_equivariant
from shared.rarely import rarely
from shared.representations import GROUPS, output_action, signed_action, size
from shared.symmetrized_models import a_few, group_and_seed, mlp, square_of_images

INNER = ["equitune", "lambda", "equizero", "canonical"]
inners = st.sampled_from(INNER)


def of(group: Any, seed: int, inner: str, dtype: torch.dtype = torch.float64) -> Symmetrized:
    rng = np.random.default_rng(seed)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    network = mlp(size(into), size(out))
    model = Symmetrized(network, into, out, "relaxed", inner=inner, feature_dim=size(out))
    return model.to(dtype).eval()


def points(model: Symmetrized, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(9, size(model.input_action), dtype=dtype)


def stirred(model: Symmetrized) -> Symmetrized:
    """With α between 0 and 1, and on both of them."""
    with torch.no_grad():
        model.weighting.h[-1].weight.normal_(std=3)
        model.weighting.h[-1].bias.fill_(0.5)
    return model


@given(group_and_seed, inners, st.sampled_from([torch.float32, torch.float64]))
@a_few
def test_relaxed_begins_as_its_inner_method_and_exactly_equivariant(
    drawn: tuple[Any, int], inner: str, dtype: torch.dtype
) -> None:
    model = of(*drawn, inner, dtype)
    x = points(model, dtype)
    options = {"feature_dim": size(model.output_action)} if inner == "lambda" else {}
    same = Symmetrized(model.model, model.input_action, model.output_action, inner, **options)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(model(x), same.to(dtype).eval()(x), rtol=0, atol=tolerance)
    assert_equivariant(model, model.input_action, model.output_action, x)


@given(group_and_seed, inners)
@a_few
def test_relaxed_lies_between_the_inner_method_and_the_model(
    drawn: tuple[Any, int], inner: str
) -> None:
    model = of(*drawn, inner)
    x = points(model)
    symmetric = model(x).detach()
    alpha = alpha_of(stirred(model), x).detach()
    torch.testing.assert_close(alpha, relaxation(model, x).alpha)
    expected = (1 - alpha)[:, None] * symmetric + alpha[:, None] * model.model(x)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(relaxation(model, x).value, expected, rtol=0, atol=1e-10)
    weights = model.branches(x).weights
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(9, dtype=torch.float64))


@given(group_and_seed, inners, st.sampled_from([True, "auto"]))
@a_few
def test_each_entry_can_be_let_go_of_by_itself(
    drawn: tuple[Any, int], inner: str, per_action: bool | str
) -> None:
    group, seed = drawn
    shared = of(group, seed, inner)
    outputs = size(shared.output_action)
    model = Symmetrized(
        shared.model,
        shared.input_action,
        shared.output_action,
        "relaxed",
        inner=inner,
        per_action=per_action,
        feature_dim=outputs,
    )
    if per_action == "auto" and model.weighting is not None:
        model.weighting.running_gain.fill_(1.0)
    x = points(model.double().eval())
    symmetric = model(x).detach()
    torch.testing.assert_close(symmetric, shared(x), rtol=0, atol=1e-12)
    alpha = alpha_of(stirred(model), x)
    assert alpha.shape == (9, outputs)
    expected = (1 - alpha) * symmetric + alpha * model.model(x)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(relaxation(model, x).value, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("group", GROUPS, ids=repr)
def test_where_everything_is_let_go_of_relaxed_is_the_model(group: Any) -> None:
    model = of(group, 0, "equizero")
    if model.weighting is not None:
        nn.init.constant_(model.weighting.h[-1].bias, 2.0)
    x = points(model)
    torch.testing.assert_close(model(x), model.model(x), rtol=0, atol=1e-12)


def test_the_evidence_is_the_best_mixture_shrunk_by_the_prior() -> None:
    torch.manual_seed(0)
    weighting = RelaxedWeighting(1, None).double()
    symmetric, plain, target = 0.3 * torch.randn(3, 4000, dtype=torch.float64)
    r, d = target - symmetric, plain - symmetric
    weighting.eval().running_error.fill_(float(r.square().mean() / 2))
    weighting.running_gap.fill_(float(d.square().mean() / 2))
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        weighting.loss([p.expand(4000)], symmetric, plain, target).backward()
        optimizer.step()
    shrunk_by = PRIOR * (d.square().mean() + FLOOR * r.square().mean())
    best = (r * d).mean() / (d.square().mean() + shrunk_by)
    # The Huber loss counts the few large errors a little less.
    assert float(p.detach()) == pytest.approx(float(best), abs=0.02)


def test_alpha_is_one_where_the_symmetry_fails_and_zero_where_models_differ_by_noise() -> None:
    torch.manual_seed(1)
    weighting = RelaxedWeighting(2, None)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=1e-2)
    features, usual = torch.eye(2).repeat(500, 1), torch.tensor([0.0, 1.0]).repeat(500)
    for _ in range(300):
        target = usual + 0.5 * torch.randn(1000)
        plain = usual + 0.1 * torch.randn(1000)  # knows, up to noise, what M_G knows by halves
        symmetric = torch.zeros(1000)
        optimizer.zero_grad()
        weighting.loss(weighting.candidates(features), symmetric, plain, target).backward()
        optimizer.step()
    holds, fails = let_go(weighting.evidence(torch.eye(2))).tolist()
    assert (holds, fails) == (0, 1)


@pytest.mark.parametrize("which", ["one", "all"])
def test_each_entry_has_its_own_evidence_where_that_predicts_better(which: str) -> None:
    torch.manual_seed(2)
    weighting = RelaxedWeighting(2, None, entries=3, chooses=True)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=1e-2)
    for step in range(400):
        entry, features = torch.randint(3, (256,)), torch.randn(256, 2)
        # M knows what M_G does not, of the last entry or of all; else it differs by noise.
        true = torch.randn(256)
        knows = torch.ones(256, dtype=torch.bool) if which == "all" else entry == 2
        plain = torch.where(knows, true, torch.randn(256))
        of_all, of_each = weighting.candidates(features)
        if step == 0:
            assert weighting.evidence(features).abs().max() == 0
            assert not weighting.is_by_entry
        own = of_each.gather(1, entry[:, None])[:, 0]
        optimizer.zero_grad()
        target = true + 0.3 * torch.randn(256)
        weighting.loss([of_all, own], torch.zeros(256), plain, target).backward()
        optimizer.step()
    assert bool(weighting.is_by_entry) == (which == "one")
    alpha = let_go(weighting.evidence(torch.randn(50, 2))).mean(dim=0)
    assert alpha.shape == (3,)
    expected = torch.tensor([0.0, 0.0, 1.0]) if which == "one" else torch.ones(3)
    torch.testing.assert_close(alpha, expected, rtol=0, atol=0.15)


def test_no_gradient_of_the_evidence_reaches_the_model_and_none_of_the_value_the_evidence() -> None:
    into, out = square_of_images()
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 4))
    model = Symmetrized(network, into, out, "relaxed", feature_dim=4)
    parts = relaxation(model, torch.randn(5, 2, 6, 6))
    of_model, of_alpha = list(network.parameters()), list(model.weighting.h.parameters())
    target = torch.zeros(5, 4)
    loss = model.weighting.loss(parts.candidates, parts.symmetric, parts.plain, target)
    for losses, untouched in ((loss, of_model), (parts.value.square().sum(), of_alpha)):
        found = torch.autograd.grad(losses, untouched, retain_graph=True, allow_unused=True)
        assert all(gradient is None for gradient in found)
    assert torch.autograd.grad(loss, of_alpha[-1])[0].abs().max() > 0


@pytest.mark.parametrize("inner", rarely(INNER, "equitune", "equizero"))
def test_a_recorded_graph_gives_the_same(inner: str) -> None:
    turn = GroupAction.on_vectors(cyclic(3), permutations=[[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    torch.manual_seed(0)
    model = Symmetrized(mlp(3, 3), turn, turn, "relaxed", inner=inner, feature_dim=3)
    stirred(model.eval())
    x = torch.randn(7, 3)
    batch = {0: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes={"x": batch}, strict=False)
        assert torch.allclose(program.module()(x), model(x), atol=1e-6)
