"""Every method is what its formula says, computed by the book."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from equirl import GroupAction, Symmetrized
from equirl.symmetrize.weightings import (
    INFINITE_BETA,
)
from shared.representations import affine_action, output_action, signed_action, size
from shared.symmetrized_models import (
    METHODS,
    WholeNumbers,
    a_few,
    group_and_seed,
    method_names,
    mlp,
    property_based,
    symmetrized,
)


def flat_parts(action: GroupAction) -> tuple[np.ndarray, np.ndarray]:
    """Matrices and offsets of an action, as an independent code would hold them."""
    n = size(action)
    offset = np.stack([action.transform(g, np.zeros(n)) for g in range(action.group.order)])
    columns = [
        [action.transform(g, unit) - offset[g] for unit in np.eye(n)]
        for g in range(action.group.order)
    ]
    return np.array(columns).transpose(0, 2, 1), offset


def by_the_book(model: nn.Module, x: np.ndarray, symmetrized: Symmetrized) -> np.ndarray:
    """Σ_g w_g(x) · g⁻¹M(gx), one input and one element at a time, straight from the definition."""
    into, out = symmetrized.input_action, symmetrized.output_action
    (matrix, offset), (out_matrix, _) = flat_parts(into), flat_parts(out)
    rows = []
    for point in x:
        moved = [matrix[g] @ point + offset[g] for g in range(into.group.order)]
        outputs = [model(torch.from_numpy(m)[None])[0].detach().numpy() for m in moved]
        values = [np.linalg.inv(out_matrix[g]) @ y for g, y in enumerate(outputs)]
        scores = np.array([y.max() for y in outputs])
        if symmetrized.method.name == "equitune":
            weights = np.ones(len(moved))
        elif symmetrized.method.name == "equizero":
            weights = np.isclose(scores, scores.max(), rtol=0, atol=1e-9).astype(float)
        elif symmetrized.method.name == "canonical" and symmetrized.canonical_score is None:
            keys = [tuple(np.round(m, 9) + 0.0) for m in moved]
            weights = np.array([key == max(keys) for key in keys], dtype=float)
        elif symmetrized.method.name == "canonical":
            c = np.array(
                [
                    float(symmetrized.canonical_score(torch.from_numpy(m)[None]).detach())
                    for m in moved
                ]
            )
            weights = np.isclose(c, c.max(), rtol=0, atol=1e-9).astype(float)
        else:
            weighting = symmetrized.weighting
            h = weighting.h(torch.from_numpy(np.stack(outputs))).detach().numpy()[:, 0]
            beta, spread = (
                float(weighting.beta.detach()),
                float(weighting.running_score_spread) or 1.0,
            )
            if beta >= INFINITE_BETA:
                weights = np.isclose(scores, scores.max(), rtol=0, atol=1e-9).astype(float)
            else:
                logits = beta * scores / spread + h
                weights = np.exp(logits - logits.max())
        rows.append(sum(w * v for w, v in zip(weights / weights.sum(), values, strict=True)))
    return np.array(rows)


@given(group_and_seed, method_names, st.sampled_from([signed_action, affine_action]), st.booleans())
@property_based
def test_every_method_is_its_definition(where, name, action, whole):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    whole = whole and action is signed_action
    network = (WholeNumbers if whole else mlp)(size(into), size(out)).double()
    model = symmetrized(network, into, out, METHODS[name], seed).double()
    x = (
        torch.randint(-1, 2, (3, size(into))).double()
        if whole
        else torch.randn(3, size(into)).double()
    )
    if model.weighting is not None and rng.random() < 0.5:
        model.weighting.running_score_spread.fill_(0.3)
    model.eval()
    expected = by_the_book(network, x.numpy(), model)
    assert np.allclose(model(x).detach().numpy(), expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert np.allclose(model(x).numpy(), expected, rtol=1e-9, atol=1e-9)


@given(group_and_seed, method_names, st.sampled_from([mlp, None]))
@a_few
def test_weights_sum_to_one_and_move_along_the_orbit(where, name, network):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    inner = (network or WholeNumbers)(size(into), size(out))
    model = symmetrized(inner, into, out, METHODS[name], seed).double().eval()
    x = torch.randint(-1, 2, (5, size(into))).double()
    values, weights = model.branches(x)
    assert values.shape == (group.order, 5, size(out))
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(dim=0), torch.ones(5, dtype=torch.float64), atol=1e-12)
    assert torch.allclose((weights[..., None] * values).sum(dim=0), model(x), atol=1e-12)
    for g in rng.integers(0, group.order, size=3):
        # λ(h·gx) belongs to the element hg of x, and h⁻¹M(hgx) = g·(hg)⁻¹M(hgx).
        there = model.branches(into.transform(int(g), x))
        along = torch.from_numpy(group.table[:, g].copy())
        assert torch.allclose(there.weights, weights[along], atol=1e-12)
        for h in range(group.order):
            expected = out.transform(int(g), values[along[h]])
            assert torch.allclose(there.values[h], expected, atol=1e-12)
