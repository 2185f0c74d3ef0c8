"""Symmetrized models: exactly equivariant, whatever the group, the method, the model and the input.

Random cases are drawn from fixed seeds: near a tie that is no tie, rounding decides, and a test
that meets one such input in a million runs would teach nobody anything.
"""

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import FiniteGroup, GroupAction, Symmetrized, Symmetry
from equirl.affines import Affines
from equirl.groups import cyclic, dihedral, direct_product, symmetric
from equirl.layout import Leaf
from equirl.signed_permutations import SignedPermutations
from equirl.weightings import (
    INFINITE_BETA,
    LearnedScore,
    lexicographic_weights,
    shared_among_best,
)

property_based = settings(deadline=None, derandomize=True, max_examples=200)
a_few = settings(property_based, max_examples=50)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
"""Largest equivariance error, relative to max(1, |output|)."""

METHODS: dict[str, dict[str, Any]] = {
    "equitune": {"method": "equitune"},
    "lambda from equitune": {"method": "lambda", "init": "equitune"},
    "lambda from equizero": {"method": "lambda", "init": "equizero"},
    "equizero": {"method": "equizero"},
    "equizero straight through": {"method": "equizero", "gradient": "straight_through"},
    "canonical": {"method": "canonical"},
    "canonical straight through": {"method": "canonical", "gradient": "straight_through"},
    "canonical learned": {"method": "canonical", "canonical_score": True},
    "canonical learned straight through": {
        "method": "canonical",
        "canonical_score": True,
        "gradient": "straight_through",
    },
}
every_method = pytest.mark.parametrize("name", METHODS)

GROUPS = [
    cyclic(2),
    cyclic(3),
    cyclic(4),
    cyclic(7),
    dihedral(2),
    dihedral(3),
    dihedral(4),
    dihedral(6),
    symmetric(3),
    symmetric(4),
    direct_product(cyclic(2), cyclic(4)),
    direct_product(dihedral(3), cyclic(3)),
    direct_product(symmetric(3), symmetric(3)),
    direct_product(dihedral(4), cyclic(3)),
    direct_product(symmetric(4), cyclic(2)),
]


def sign_characters(group: FiniteGroup) -> list[np.ndarray]:
    """All homomorphisms to {1, -1}, as vectors ``[|G|]``."""
    generators: list[int] = []
    for g in range(group.order):
        if g not in group.generated_by(generators):
            generators.append(g)
    characters = []
    for signs in itertools.product([1, -1], repeat=len(generators)):
        character, pending = {0: 1}, [0]
        while pending:
            g = pending.pop()
            for generator, sign in zip(generators, signs, strict=True):
                product = group.product(g, generator)
                if product not in character:
                    character[product] = sign * character[g]
                    pending.append(product)
        values = np.array([character[g] for g in range(group.order)])
        if np.array_equal(values[group.table], np.outer(values, values)):
            characters.append(values)
    return characters


def coset_representation(
    group: FiniteGroup, rng: np.random.Generator, signed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A random transitive action ``[|G|, n]``: where entry i goes, and the sign it takes.

    It is induced from a random subgroup H, and where signed from a random sign character of H.
    """
    members = group.generated_by(rng.integers(0, group.order, size=rng.integers(0, 3)))
    subgroup = group.subgroup(members)
    character = np.ones(subgroup.order, dtype=int)
    if signed:
        choices = sign_characters(subgroup)
        character = choices[rng.integers(len(choices))]
    representatives: list[int] = []
    coset_of, remainder = np.full(group.order, -1), np.zeros(group.order, dtype=int)
    for t in range(group.order):
        if coset_of[t] < 0:
            for k, h in enumerate(members):
                coset_of[group.product(t, h)] = len(representatives)
                remainder[group.product(t, h)] = k
            representatives.append(t)
    moved = group.table[:, representatives]  # g·t_i = t_j·h
    return coset_of[moved], character[remainder[moved]]


def representation(
    group: FiniteGroup, rng: np.random.Generator, signed: bool = False, most: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """A sum of random transitive actions, of 2 … ``most`` entries (or one action of up to 48)."""
    target, sign = coset_representation(group, rng, signed)
    while target.shape[1] < 2 or rng.random() < 0.4:
        more, more_signs = coset_representation(group, rng, signed)
        if target.shape[1] >= 2 and target.shape[1] + more.shape[1] > most:
            break
        target = np.concatenate([target, target.shape[1] + more], axis=1)
        sign = np.concatenate([sign, more_signs], axis=1)
    return target, sign


def matrices_of(target: np.ndarray, sign: np.ndarray) -> np.ndarray:
    order, n = target.shape
    matrices = np.zeros((order, n, n))
    for g in range(order):
        matrices[g, target[g], np.arange(n)] = sign[g]
    return matrices


def signed_action(group: FiniteGroup, rng: np.random.Generator) -> GroupAction:
    target, sign = representation(group, rng, signed=True)
    index = np.argsort(target, axis=1)
    maps = SignedPermutations(index, np.take_along_axis(sign, index, axis=1).astype(np.float64))
    return GroupAction(group, (Leaf(None, (target.shape[1],), "float32"),), ((0,),), (maps,))


def affine_action(group: FiniteGroup, rng: np.random.Generator) -> GroupAction:
    """A representation in other coordinates (condition number up to 4), about another point."""
    matrices = matrices_of(*representation(group, rng, signed=True, most=12))
    n = matrices.shape[1]
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    basis = left @ np.diag(rng.uniform(0.7, 1.4, n)) @ right
    matrices = basis @ matrices @ np.linalg.inv(basis)
    centre = rng.normal(size=n)
    maps = Affines(matrices, centre - matrices @ centre)
    return GroupAction(group, (Leaf(None, (n,), "float32"),), ((0,),), (maps,))


def output_action(group: FiniteGroup, rng: np.random.Generator) -> GroupAction:
    return GroupAction.on_vectors(group, permutations=representation(group, rng, most=8)[0])


def size(action: GroupAction) -> int:
    return action.leaves[0].size


def mlp(entries: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(entries, 24), nn.Tanh(), nn.Linear(24, outputs))


def batch_normed(entries: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(entries, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, outputs)
    )


class Constant(nn.Module):
    """The same distinct values for every input: all scores tie, yet no two branches agree."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.linspace(-1, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.values.expand(len(x), -1) + 0 * x.sum(dim=1, keepdim=True)


class Invariant(nn.Module):
    """An invariant model: all scores tie up to rounding, yet no two branches agree."""

    def __init__(self, action: GroupAction, outputs: int) -> None:
        super().__init__()
        self.action = action
        self.inner, self.outer = mlp(size(action), 5), mlp(5, outputs)

    def forward(self, x: Tensor) -> Tensor:
        orbit = self.action.orbit(x)
        pooled: Tensor = self.outer(
            self.inner(orbit.flatten(0, 1)).unflatten(0, orbit.shape[:2]).mean(0)
        )
        return pooled


class WholeNumbers(nn.Module):
    """Small whole numbers out of small whole numbers, without rounding: many scores tie exactly."""

    def __init__(self, entries: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(entries, 6), nn.Linear(6, outputs)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randint(-1, 2, parameter.shape).to(parameter.dtype))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(x).relu().clamp(max=3))
        return result


def symmetrized(
    model: nn.Module,
    input_action: GroupAction,
    output_action: GroupAction,
    options: dict[str, Any],
    seed: int = 0,
) -> Symmetrized:
    """With random β and h for λ, and a random learned score for canonical."""
    options = dict(options)
    torch.manual_seed(seed)
    if options.pop("canonical_score", False):
        options["canonical_score"] = mlp(size(input_action), 1)
        options["canonical_score"] = nn.Sequential(options["canonical_score"], nn.Flatten(0))
    result = Symmetrized(
        model, input_action, output_action, feature_dim=size(output_action), **options
    )
    if result.weighting is not None:
        with torch.no_grad():
            if options.get("init") == "equitune":
                result.weighting.asinh_beta.normal_(std=1.5).clamp_(-2, 2)
            for layer in result.weighting.h:
                if isinstance(layer, nn.Linear):
                    layer.weight.normal_(std=0.3)
    return result


def equivariance_error(
    model: nn.Module,
    input_action: GroupAction,
    output_action: GroupAction,
    x: Tensor,
    seed: int = 0,
) -> float:
    """max |M(gx) - gM(x)| / max(1, |M(x)|), with another g in every row; from one state of M."""
    elements = np.random.default_rng(seed).integers(0, input_action.group.order, size=len(x))
    expected = output_action.transform(elements, copy.deepcopy(model)(x).detach())
    actual = copy.deepcopy(model)(input_action.transform(elements, x)).detach()
    assert actual.isfinite().all()
    return float(((actual - expected).abs() / expected.abs().clamp(min=1)).max())


def on_stabilised(action: GroupAction, x: Tensor, rng: np.random.Generator) -> Tensor:
    """The points moved onto those that a random subgroup leaves where they are."""
    members = action.group.generated_by(rng.integers(0, action.group.order, size=2))
    return action.orbit(x)[list(members)].mean(dim=0)


group_and_seed = st.tuples(st.sampled_from(GROUPS), st.integers(0, 2**31 - 1))
method_names = st.sampled_from(sorted(METHODS))
dtypes = st.sampled_from([torch.float32, torch.float64])


@given(
    group_and_seed,
    method_names,
    dtypes,
    st.sampled_from([signed_action, affine_action]),
    st.sampled_from([mlp, batch_normed]),
    st.booleans(),
    st.booleans(),
)
@property_based
def test_every_method_is_equivariant(where, name, dtype, action, network, training, stabilised):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    model = symmetrized(network(size(into), size(out)), into, out, METHODS[name], seed)
    model = model.to(dtype).train(training)
    x = torch.randn(8, size(into), dtype=dtype)
    if stabilised:
        x = torch.cat([x[:4], on_stabilised(into, x[4:], rng)])
    assert equivariance_error(model, into, out, x, seed) <= TOLERANCE[dtype]
    with torch.no_grad():
        assert equivariance_error(model, into, out, x, seed) <= TOLERANCE[dtype]


@given(group_and_seed, method_names, dtypes, st.sampled_from([signed_action, affine_action]))
@property_based
def test_every_method_is_equivariant_when_all_scores_tie(where, name, dtype, action):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = action(group, rng), output_action(group, rng)
    x = torch.randn(6, size(into), dtype=dtype)
    for network in (Constant(size(out)), Invariant(into, size(out))):
        model = symmetrized(network, into, out, METHODS[name], seed).to(dtype)
        model(x)  # λ measures a spread of rounding errors, and must not magnify it
        assert equivariance_error(model, into, out, x, seed) <= TOLERANCE[dtype]


@given(group_and_seed, method_names, dtypes)
@property_based
def test_every_method_is_equivariant_when_some_scores_tie(where, name, dtype):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    network = WholeNumbers(size(into), size(out))
    model = symmetrized(network, into, out, METHODS[name], seed).to(dtype)
    x = torch.randint(-1, 2, (12, size(into))).to(dtype)
    assert equivariance_error(model, into, out, x, seed) <= TOLERANCE[dtype]
    with torch.no_grad():
        assert equivariance_error(model, into, out, x, seed) <= TOLERANCE[dtype]


def square_of_images(dtype: type = np.float32) -> tuple[GroupAction, GroupAction]:
    """D4 on two-channel images, channels first, and on the actions east, north, west, south."""
    space = spaces.Box(-1, 1, (2, 6, 6), dtype)
    symmetry = Symmetry.from_generators(
        space,
        spaces.Discrete(4),
        {
            "r": (lambda image: np.rot90(image, axes=(1, 2)), [1, 2, 3, 0]),
            "s": (lambda image: image[:, ::-1], [0, 3, 2, 1]),
        },
    )
    return symmetry.observations, symmetry.q_values


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(),
        nn.Linear(16, 4),
    )  # fmt: skip


def canonical_cnn_score() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 1), nn.Flatten(0))


def images_with_symmetries(action: GroupAction, dtype: torch.dtype) -> Tensor:
    torch.manual_seed(1)
    x = torch.randn(9, 2, 6, 6, dtype=dtype)
    x[3] = 0.5  # a blank image is left in place by every element
    x[4] = action.orbit(x[4])[[0, action.group.index("s")]].mean(dim=0)
    x[5] = action.orbit(x[5])[:4].mean(dim=0)
    x[6:] = x[6:].sign()
    return x


@every_method
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_convolutional_network_becomes_equivariant_to_the_square(name, training, dtype):
    into, out = square_of_images()
    options = dict(METHODS[name])
    if "canonical_score" in options:
        options["canonical_score"] = canonical_cnn_score()
    torch.manual_seed(0)
    model = Symmetrized(small_cnn(), into, out, feature_dim=4, **options).to(dtype).train(training)
    x = images_with_symmetries(into, dtype)
    for seed in range(4):
        assert equivariance_error(model, into, out, x, seed) <= TOLERANCE[dtype]


@every_method
def test_dict_observations_with_exchanged_keys(name):
    space = spaces.Dict(
        left=spaces.Box(-1, 1, (3,), np.float32),
        right=spaces.Box(-1, 1, (3,), np.float32),
        speed=spaces.Box(-1, 1, (1,), np.float32),
        heading=spaces.Discrete(2),
    )
    symmetry = Symmetry.from_generators(
        space,
        spaces.Discrete(3),
        {
            "mirror": (
                lambda s: {
                    "left": s["right"],
                    "right": s["left"],
                    "speed": -s["speed"],
                    "heading": 1 - s["heading"],
                },
                [1, 0, 2],
            )
        },
    )

    def flattened(s: dict[str, Tensor]) -> Tensor:
        return torch.cat([s["left"], s["right"], s["speed"], s["heading"][:, None].float()], dim=1)

    class Extractor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = mlp(8, 3)

        def forward(self, s: dict[str, Tensor]) -> Tensor:
            result: Tensor = self.network(flattened(s))
            return result

    options = dict(METHODS[name])
    if "canonical_score" in options:
        options["canonical_score"] = LearnedScore(flattened, 8)
    torch.manual_seed(0)
    model = Symmetrized(
        Extractor(), symmetry.observations, symmetry.q_values, feature_dim=3, **options
    )
    x = {
        "left": torch.randn(6, 3),
        "right": torch.randn(6, 3),
        "speed": torch.randn(6, 1),
        "heading": torch.tensor([0, 1, 0, 1, 1, 0]),
    }
    expected = symmetry.q_values.transform(1, model(x))
    assert torch.allclose(model(symmetry.observations.transform(1, x)), expected, atol=1e-6)


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
        if symmetrized.method == "equitune":
            weights = np.ones(len(moved))
        elif symmetrized.method == "equizero":
            weights = np.isclose(scores, scores.max(), rtol=0, atol=1e-9).astype(float)
        elif symmetrized.method == "canonical" and symmetrized.canonical_score is None:
            keys = [tuple(np.round(m, 9) + 0.0) for m in moved]
            weights = np.array([key == max(keys) for key in keys], dtype=float)
        elif symmetrized.method == "canonical":
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
        self.method = of.method

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


@pytest.mark.parametrize("group", [dihedral(2), symmetric(3), symmetric(4)], ids=repr)
@pytest.mark.parametrize("network", [mlp, WholeNumbers])
def test_running_only_the_chosen_element_again_changes_no_gradient(group, network, monkeypatch):
    rng = np.random.default_rng(0)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(0)
    model = Symmetrized(network(size(into), size(out)), into, out, "equizero").double()
    x, output_weights = torch.randint(-2, 3, (16, size(into))).double(), torch.randn(16, size(out))
    rerun, rerun_value = gradients(model, x, output_weights), model(x)
    monkeypatch.setattr("equirl.symmetrize.RERUN_ORDER", 10**6)
    assert_same_gradients(rerun, gradients(model, x, output_weights))
    assert torch.allclose(rerun_value, model(x), atol=1e-12)


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


def test_equizero_straight_through_has_the_gradient_of_equitune():
    into, out = square_of_images()
    torch.manual_seed(0)
    network, x = small_cnn().double().eval(), torch.randn(5, 2, 6, 6).double()
    output_weights = torch.randn(5, 4).double()
    through = Symmetrized(network, into, out, "equizero", gradient="straight_through")
    average = Symmetrized(network, into, out, "equitune")
    assert_same_gradients(
        gradients(through, x, output_weights), gradients(average, x, output_weights)
    )


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


@every_method
def test_the_trivial_group_leaves_the_model_bit_for_bit(name):
    trivial = GroupAction.trivial(FiniteGroup.trivial(), (5,))
    out = GroupAction.trivial(FiniteGroup.trivial(), (3,))
    torch.manual_seed(0)
    network = mlp(5, 3)
    options = {k: v for k, v in METHODS[name].items() if k != "canonical_score"}
    model = Symmetrized(network, trivial, out, feature_dim=3, **options)
    x = torch.randn(7, 5)
    assert torch.equal(model(x), network(x))
    assert [f"model.{key}" for key in network.state_dict()] == list(model.state_dict())
    assert model.order == 1
    branches = model.branches(x)
    assert torch.equal(branches.values, network(x)[None])
    assert torch.equal(branches.weights, torch.ones(1, 7))


@pytest.mark.parametrize("name", [name for name in METHODS if "learned" not in name])
def test_only_lambda_adds_parameters(name):
    group = cyclic(3)
    into = GroupAction.on_vectors(group, permutations=group.table)
    network = batch_normed(3, 3)
    model = Symmetrized(network, into, into, feature_dim=3, **METHODS[name])
    own = {f"model.{key}" for key in network.state_dict()}
    added = set(model.state_dict()) - own
    assert own <= set(model.state_dict())
    assert all(key.startswith("weighting.") for key in added)
    assert bool(added) == (model.method == "lambda")


@every_method
def test_building_the_module_draws_nothing_from_the_global_generator(name):
    group = cyclic(3)
    into = GroupAction.on_vectors(group, permutations=group.table)
    options = {k: v for k, v in METHODS[name].items() if k != "canonical_score"}
    network = mlp(3, 3)
    if "canonical_score" in METHODS[name]:
        options["canonical_score"] = LearnedScore(lambda rows: rows, 3)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    LearnedScore(lambda rows: rows, 3)
    Symmetrized(network, into, into, feature_dim=3, **options)
    assert torch.equal(torch.rand(1), expected)


@every_method
def test_copies_and_pickles_compute_the_same_and_are_independent(name):
    group = dihedral(3)
    rng = np.random.default_rng(0)
    into, out = signed_action(group, rng), output_action(group, rng)
    model = symmetrized(mlp(size(into), size(out)), into, out, METHODS[name])
    x = torch.randn(4, size(into))
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(x), expected)
        with torch.no_grad():
            for parameter in other.model.parameters():
                parameter.zero_()
        assert other(x).abs().max() == 0
        assert torch.equal(model(x), expected)


def test_features_feed_the_weights_and_the_model():
    group = dihedral(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    out = GroupAction.on_vectors(group, permutations=group.table)
    torch.manual_seed(0)
    features, head = nn.Sequential(nn.Linear(8, 6), nn.Tanh()), nn.Linear(6, 8)
    model = Symmetrized(head, into, out, "lambda", features=features, feature_dim=6)
    with torch.no_grad():
        model.weighting.h[-1].weight.normal_()
    x = torch.randn(5, 8)
    h = torch.stack([model.weighting.h(features(moved))[:, 0] for moved in into.orbit(x)])
    assert torch.allclose(model.branches(x).weights, torch.softmax(h, dim=0), atol=1e-6)
    assert equivariance_error(model, into, out, x) <= 1e-5
    average = Symmetrized(head, into, out, "equitune", features=features)
    expected = Symmetrized(nn.Sequential(features, head), into, out, "equitune")
    assert torch.allclose(average(x), expected(x), atol=1e-6)


def test_any_score_of_the_output_can_be_maximised():
    group = cyclic(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    torch.manual_seed(0)
    network, x = mlp(4, 4), torch.randn(16, 4)
    first = Symmetrized(network, into, into, "equizero", score=lambda y: y[:, 0])
    best = first.branches(x).weights.argmax(dim=0)
    outputs = torch.stack([network(moved) for moved in into.orbit(x)])
    assert torch.equal(best, outputs[..., 0].argmax(dim=0))
    assert equivariance_error(first, into, into, x) <= 1e-5
    with torch.no_grad():
        assert equivariance_error(first, into, into, x) <= 1e-5


def test_an_invariant_output_is_symmetrized_over_its_branches_as_they_are():
    group = dihedral(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    classes = GroupAction.trivial(group, (3,))
    torch.manual_seed(0)
    network, x = mlp(8, 3), torch.randn(6, 8)
    for method in ("equitune", "equizero", "canonical"):
        model = Symmetrized(network, into, classes, method)
        for g in range(8):
            assert torch.allclose(model(into.transform(g, x)), model(x), atol=1e-6)


def test_canonical_runs_the_model_once_per_input_without_ties():
    group = dihedral(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    rows = []

    def counted(x: Tensor) -> Tensor:
        rows.append(len(x))
        return x

    Symmetrized(counted, into, into, "canonical")(torch.randn(5, 8))
    assert rows == [5]
    Symmetrized(counted, into, into, "canonical")(torch.zeros(5, 8))
    assert rows == [5, 40]  # every element stabilises zero


@pytest.mark.parametrize(
    "points",
    [
        torch.tensor([[3, 1, 2, 1]], dtype=torch.uint8),
        torch.tensor([[300, 1, 2, 1]], dtype=torch.uint16),
        torch.tensor([[True, False, False, False]]),
        torch.tensor([[3.0, 1.0, 2.0, 1.0]], dtype=torch.float16),
        torch.tensor([[3.0, 1.0, 2.0, 1.0]], dtype=torch.float64),
        torch.tensor([[-1, -3, -2, -3]]),
    ],
    ids=lambda points: str(points.dtype),
)
def test_the_lexicographically_largest_point_is_chosen_in_every_dtype(points):
    group = cyclic(4)
    turns = GroupAction.on_vectors(group, permutations=group.table)
    weights = lexicographic_weights(turns.orbit(points))
    assert weights.flatten().tolist() == [1, 0, 0, 0]
    assert weights.is_floating_point()
    orbit = turns.orbit(turns.orbit(points)[3])
    assert lexicographic_weights(orbit).flatten().tolist() == [0, 1, 0, 0]  # 3 + 1 = 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.uint8])
def test_a_stabiliser_shares_the_weight_and_the_shares_sum_to_one(dtype):
    group = cyclic(6)
    turns = GroupAction.on_vectors(group, permutations=group.table)
    weights = lexicographic_weights(turns.orbit(torch.tensor([[5, 1, 5, 1, 5, 1]]).to(dtype)))
    assert weights.flatten().tolist() == pytest.approx([1 / 3, 0] * 3)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)


def test_beside_large_numbers_small_ones_still_decide_the_order():
    orbit = {
        "image": torch.full((2, 1, 4), 255.0),
        "speed": torch.tensor([[[-1e-3]], [[1e-3]]]),
    }
    assert lexicographic_weights(orbit).flatten().tolist() == [0, 1]


def test_a_learned_score_near_zero_ties_up_to_the_rounding_of_what_it_came_from():
    group = cyclic(2)
    flip = GroupAction.on_vectors(group, matrices=[np.eye(2), -np.eye(2)])
    swap = GroupAction.on_vectors(group, permutations=[[0, 1], [1, 0]])
    # c is invariant but for the rounding of numbers of order one that cancel.
    score = {"canonical_score": lambda rows: 1e-7 * rows[:, 0]}
    model = Symmetrized(nn.Linear(2, 2), flip, swap, "canonical", **score)
    x = torch.randn(5, 2)
    assert torch.equal(model.branches(x).weights, torch.full((2, 5), 0.5))


def test_scores_within_rounding_share_and_others_do_not():
    scores = torch.tensor([[1.0, 1.0, -5.0], [1.0 + 1e-6, 1.0 + 1e-3, -5.0], [0.0, 0.5, -6.0]])
    weights = shared_among_best(scores, torch.tensor([1.0, 1.0, 6.0]))
    assert weights.T.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0]]


@every_method
def test_what_is_not_a_number_does_not_pass_for_one(name):
    group = cyclic(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    model = symmetrized(mlp(4, 4), into, into, METHODS[name]).eval()
    x = torch.randn(3, 4)
    expected = model(x)
    x[1] = float("nan")
    for context in (torch.enable_grad(), torch.no_grad()):
        with context:
            y = model(x)
            assert y[1].isnan().all()
            assert torch.allclose(y[[0, 2]], expected[[0, 2]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "average"},
            "method must be one of equitune, lambda, equizero, canonical, got 'average'",
        ),
        ({"gradient": "soft"}, "gradient must be one of selected, straight_through, got 'soft'"),
        ({"init": "zero"}, "init must be one of equitune, equizero, got 'zero'"),
        ({"method": "lambda"}, "lambda needs feature_dim"),
        ({"output_action": GroupAction.trivial(cyclic(3), (2,))}, "acted on by the same group"),
    ],
)
def test_options_that_do_not_exist_or_fit_are_refused(options, message):
    action = GroupAction.trivial(cyclic(2), (2,))
    arguments: dict[str, Any] = {"input_action": action, "output_action": action, **options}
    with pytest.raises(ValueError, match=message):
        Symmetrized(nn.Linear(2, 2), **arguments)


@every_method
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("action", [signed_action, affine_action])
@pytest.mark.parametrize("network", [mlp, batch_normed, WholeNumbers])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_method_is_equivariant_on_a_gpu(name, action, network, dtype):
    for seed, group in enumerate(GROUPS):
        rng = np.random.default_rng(seed)
        into, out = action(group, rng), output_action(group, rng)
        torch.manual_seed(seed)
        inner = network(size(into), size(out))
        model = symmetrized(inner, into, out, METHODS[name], seed).to("cuda", dtype)
        x = torch.randn(8, size(into), dtype=dtype)
        x = torch.cat([x[:4], on_stabilised(into, x[4:], rng)]).cuda()
        if network is WholeNumbers:
            if action is affine_action:
                continue
            x = x.round()
        assert equivariance_error(model, into, out, x, seed) <= TOLERANCE[dtype]


@every_method
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_convolutional_network_on_a_gpu_becomes_equivariant_and_agrees_with_the_cpu(name):
    into, out = square_of_images()
    options = dict(METHODS[name])
    if "canonical_score" in options:
        options["canonical_score"] = canonical_cnn_score()
    torch.manual_seed(0)
    model = Symmetrized(small_cnn(), into, out, feature_dim=4, **options).double()
    x = images_with_symmetries(into, torch.float64)
    on_cpu = copy.deepcopy(model)(x)
    model, x = model.cuda(), x.cuda()
    assert torch.allclose(copy.deepcopy(model)(x).cpu(), on_cpu, atol=1e-9)
    assert equivariance_error(model, into, out, x) <= 1e-12
    assert equivariance_error(model.float(), into, out, x.float()) <= 1e-5
