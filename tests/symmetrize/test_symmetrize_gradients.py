"""Gradients of hard choices: of the chosen branches alone, or straight through."""

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized
from equirl.groups import cyclic
from shared.representations import output_action, signed_action, size
from shared.symmetrized_models import (
    METHODS,
    WholeNumbers,
    a_few,
    group_and_seed,
    mlp,
    property_based,
    symmetrized,
)


def gradients(model: nn.Module, x: Tensor, output_weights: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (model(x) * output_weights).sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


def assert_same_gradients(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert sum(float(g.abs().sum()) for g in expected.values()) > 0
    for name, gradient in expected.items():
        assert torch.allclose(actual[name], gradient, rtol=1e-9, atol=1e-9), name


class ChosenByHand(nn.Module):
    """The mean of g⁻¹M(gx) over the maximisers, chosen outside of the graph, one g at a time."""

    def __init__(self, of: Symmetrized) -> None:
        super().__init__()
        self.model = of.model
        self.action, self.out, self.canonical = (
            of.input_action,
            of.output_action,
            of.canonical_score,
        )
        self.method = of.method.name

    def score(self, point: Tensor) -> Any:
        if self.method == "equizero":
            return (round(float(self.model(point[None]).max()), 9),)
        if self.canonical is not None:
            return (round(float(self.canonical(point[None])), 9),)
        return tuple((point.numpy().round(9) + 0.0).tolist())

    def forward(self, x: Tensor) -> Tensor:
        group = self.action.group
        rows = []
        for point in x:
            moved = [self.action.transform(g, point) for g in range(group.order)]
            with torch.no_grad():
                scores = [self.score(m) for m in moved]
            chosen = [g for g in range(group.order) if scores[g] == max(scores)]
            branches = [
                self.out.transform(group.inverse(g), self.model(moved[g][None])[0]) for g in chosen
            ]
            rows.append(torch.stack(branches).mean(dim=0))
        return torch.stack(rows)


hard_methods = st.sampled_from(["equizero", "canonical", "canonical learned"])


@given(group_and_seed, hard_methods, st.booleans())
@property_based
def test_selected_is_the_gradient_through_the_chosen_branches_alone(where, name, whole):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    network = (WholeNumbers if whole else mlp)(size(into), size(out)).double()
    model = symmetrized(network, into, out, METHODS[name], seed).double()
    x = (
        torch.randint(-1, 2, (4, size(into))).double()
        if whole
        else torch.randn(4, size(into)).double()
    )
    # Not of one sign, so that the gradients of tied branches do not cancel.
    output_weights = torch.randn(4, size(out)).double()
    by_hand = ChosenByHand(model)
    assert torch.allclose(model(x), by_hand(x), atol=1e-12)
    expected = gradients(by_hand, x, output_weights)
    actual = gradients(model, x, output_weights)
    assert_same_gradients(
        {k: v for k, v in actual.items() if k.startswith("model.")},
        {k: v for k, v in expected.items() if k.startswith("model.")},
    )


@given(group_and_seed, hard_methods, st.sampled_from([mlp, WholeNumbers]))
@a_few
def test_straight_through_has_the_value_of_the_choice_and_the_gradient_of_the_average(
    where, name, network
):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    inner = network(size(into), size(out))
    model = symmetrized(inner, into, out, METHODS[f"{name} straight through"], seed).double()
    x, output_weights = torch.randn(5, size(into)).double(), torch.randn(5, size(out)).double()
    with torch.no_grad():
        choice = model(x)
    assert torch.allclose(model(x), choice, rtol=0, atol=1e-12)

    class Average(nn.Module):
        """Equally weighted, or by softmax c where c learns."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.canonical_score = model.model, model.canonical_score

        def forward(self, x: Tensor) -> Tensor:
            orbit = into.orbit(x)
            values = torch.stack(
                [out.transform(group.inverse(g), self.model(orbit[g])) for g in range(group.order)]
            )
            logits = torch.zeros(group.order, len(x), dtype=x.dtype)
            if self.canonical_score is not None:
                logits = torch.stack([self.canonical_score(orbit[g]) for g in range(group.order)])
            result: Tensor = (torch.softmax(logits, dim=0)[..., None] * values).sum(dim=0)
            return result

    assert_same_gradients(
        gradients(model, x, output_weights), gradients(Average(), x, output_weights)
    )


def test_the_loss_reaches_the_model_through_the_branches_and_not_through_their_weights():
    group = cyclic(3)
    into = GroupAction.on_vectors(group, permutations=group.table)
    model = symmetrized(mlp(3, 3), into, into, METHODS["lambda from equitune"]).double().eval()
    x, output_weights = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    actual = gradients(model, x, output_weights)
    weights = model.branches(x).weights
    model.zero_grad()
    values = into.pull_back(torch.stack([model.model(moved) for moved in into.orbit(x)]))
    ((weights[..., None] * values).sum(dim=0) * output_weights).sum().backward()
    for name, parameter in model.model.named_parameters():
        assert torch.allclose(actual[f"model.{name}"], parameter.grad, atol=1e-12)
