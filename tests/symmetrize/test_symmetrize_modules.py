"""Symmetrized models are modules like others; their options, and what is refused."""

import copy
import pickle

import numpy as np
import torch

from equirl import FiniteGroup, GroupAction, Symmetrized
from equirl.groups import cyclic, dihedral
from equirl.symmetrize.weightings import (
    LearnedScore,
)
from shared.representations import output_action, signed_action, size
from shared.symmetrized_models import METHODS, every_method, mlp, symmetrized


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
