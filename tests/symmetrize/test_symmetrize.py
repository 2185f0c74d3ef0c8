"""Symmetrized models: exactly equivariant, whatever the group, method, model and input."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized, Symmetry
from equirl.groups import dihedral
from equirl.symmetrize.weightings import LearnedScore
from equirl.testing import assert_equivariant
from shared.representations import GROUPS, affine_action, output_action, signed_action, size
from shared.symmetrized_models import (
    METHODS,
    WholeNumbers,
    batch_normed,
    dtypes,
    every_method,
    group_and_seed,
    method_names,
    mlp,
    on_stabilised,
    property_based,
    small_cnn,
    square_of_images,
    symmetrized,
)


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
    assert_equivariant(model, into, out, x, seed=seed)
    with torch.no_grad():
        assert_equivariant(model, into, out, x, seed=seed)


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


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_convolutional_network_becomes_equivariant_to_the_square(name, training, dtype):
    into, out = square_of_images()
    options = dict(METHODS[name])
    if "canonical_score" in options:
        options["canonical_score"] = canonical_cnn_score()
    torch.manual_seed(0)
    model = Symmetrized(small_cnn(), into, out, feature_dim=4, **options).to(dtype).train(training)
    x = images_with_symmetries(into, dtype)
    assert_equivariant(model, into, out, x)


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
    assert_equivariant(model, symmetry.observations, symmetry.q_values, x)


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
    assert_equivariant(model, into, out, x)
    average = Symmetrized(head, into, out, "equitune", features=features)
    expected = Symmetrized(nn.Sequential(features, head), into, out, "equitune")
    assert torch.allclose(average(x), expected(x), atol=1e-6)


@every_method
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("action", [signed_action, affine_action])
@pytest.mark.parametrize("network", [mlp, batch_normed, WholeNumbers])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
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
        assert_equivariant(model, into, out, x, seed=seed)


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
    assert_equivariant(model, into, out, x)
    assert_equivariant(model.float(), into, out, x.float())
