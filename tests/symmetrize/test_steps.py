"""The steps of `Symmetrized` used alone: shared weights, scores from outside, several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized
from equirl.errors import MethodError
from equirl.groups import dihedral
from equirl.testing import assert_equivariant
from shared.representations import output_action, signed_action, size
from shared.symmetrized_models import METHODS, every_method, mlp, symmetrized

GROUP = dihedral(3)
RNG = np.random.default_rng(0)
INTO, OUT = signed_action(GROUP, RNG), output_action(GROUP, RNG)
VALUE = GroupAction.trivial(GROUP, (1,))
HARD_AND_SELECTED = ["equizero", "canonical", "canonical learned"]


class TwoHeads(nn.Module):
    """Logits and a value."""

    def __init__(self, as_dict: bool) -> None:
        super().__init__()
        self.body, self.logits, self.value = mlp(size(INTO), 8), mlp(8, size(OUT)), mlp(8, 1)
        self.as_dict = as_dict

    def features(self, x: Tensor) -> Tensor:
        return self.body(x).tanh()

    def heads(self, features: Tensor) -> Any:
        logits, value = self.logits(features), self.value(features)
        return {"logits": logits, "value": value} if self.as_dict else (logits, value)

    def forward(self, x: Tensor) -> Any:
        return self.heads(self.features(x))


def states() -> Tensor:
    torch.manual_seed(1)
    return torch.cat([torch.randn(5, size(INTO)), torch.zeros(1, size(INTO))]).double()


def network(name: str, seed: int = 0) -> Symmetrized:
    torch.manual_seed(seed)
    return symmetrized(mlp(size(INTO), size(OUT)), INTO, OUT, METHODS[name], seed).double().eval()


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("as_dict", [False, True])
def test_several_outputs_are_each_equivariant_and_share_the_weights(
    name: str, as_dict: bool
) -> None:
    torch.manual_seed(0)
    model = TwoHeads(as_dict)
    actions: Any = {"logits": OUT, "value": VALUE} if as_dict else (OUT, VALUE)
    options = dict(METHODS[name])
    if options.pop("canonical_score", False):
        options["canonical_score"] = nn.Sequential(mlp(size(INTO), 1), nn.Flatten(0))
    if options["method"] in ("equizero", "lambda"):  # a critic scores its actor
        options["score"] = lambda y: (y["value"] if as_dict else y[1])[:, 0]
    both = Symmetrized(
        model.heads, INTO, actions, features=model.features, feature_dim=8, **options
    ).double()
    model.double()
    assert_equivariant(both.eval(), INTO, actions, states())
    with torch.no_grad():
        assert_equivariant(both, INTO, actions, states())
    values, weights = both.branches(states())
    summed = (weights[..., None] * (values["value"] if as_dict else values[1])).sum(dim=0)
    outputs = both(states())
    torch.testing.assert_close(outputs["value"] if as_dict else outputs[1], summed)


def test_outputs_that_do_not_match_their_actions_are_refused() -> None:
    model = Symmetrized(TwoHeads(as_dict=True).double(), INTO, (OUT, VALUE), "equitune")
    with pytest.raises(MethodError, match="one action for each"):
        model(states())


@every_method
def test_the_steps_one_after_the_other_are_the_model(name: str) -> None:
    model, x = network(name), states()
    outputs, features = model.outputs(x)
    weights = model.weights(x, outputs, features)
    torch.testing.assert_close(model.combine(outputs, weights), model(x))
    torch.testing.assert_close(model.combine(outputs, model.weights(x)), model(x))
    torch.testing.assert_close(model(x, weights=model.weights(x)), model(x))
    assert torch.equal(model.orbit(x), INTO.orbit(x))


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("actor", ["equitune", "equizero"])
def test_an_actor_is_equivariant_with_the_weights_of_a_critic(name: str, actor: str) -> None:
    critic, model = network(name, 1), network(actor)

    def acting(x: Tensor) -> Any:
        return model(x, weights=critic.weights(x))

    assert_equivariant(acting, INTO, OUT, states())
    values, weights = model.branches(states()).values, critic.branches(states()).weights
    torch.testing.assert_close(acting(states()), (weights[..., None] * values).sum(dim=0))


@pytest.mark.parametrize("name", ["equizero", "lambda from equizero", "canonical learned"])
@pytest.mark.parametrize("learning", [True, False])
def test_scores_from_outside_take_the_place_of_its_own(name: str, learning: bool) -> None:
    model, critic, x = network(name), mlp(size(INTO), 1).double(), states()

    def chosen_by_critic(x: Tensor) -> Any:
        scores = critic(model.orbit(x).flatten(0, 1)).view(GROUP.order, len(x))
        return model(x, scores=scores)

    with torch.set_grad_enabled(learning):
        assert_equivariant(chosen_by_critic, INTO, OUT, x)
    if name != "lambda from equizero":
        best = critic(model.orbit(x)).squeeze(-1).argmax(dim=0)
        branches = model.branches(x).values
        expected = torch.stack([branches[g, i] for i, g in enumerate(best[:5])])
        torch.testing.assert_close(chosen_by_critic(x)[:5], expected)
    with pytest.raises(MethodError, match="scores"):
        network("equitune")(x, scores=torch.zeros(GROUP.order, len(x)))


@pytest.mark.parametrize("name", HARD_AND_SELECTED)
def test_weights_in_single_precision_do_for_double(name: str) -> None:
    model, x = network(name), states()
    weights = model.weights(x).values
    torch.testing.assert_close(model(x, weights=weights.float()), model(x), rtol=0, atol=1e-14)


@every_method
def test_keyword_arguments_reach_the_model_unmoved(name: str) -> None:
    plain = network(name)
    inner = plain.model

    def scaled(x: Tensor, *, factor: float = 1.0) -> Tensor:
        return factor * inner(x)

    plain.model = None
    plain.__dict__["model"] = scaled
    x = states()
    with torch.no_grad():
        if name.startswith("lambda"):  # whose weights see 2 M
            assert_equivariant(lambda x: plain(x, factor=2.0), INTO, OUT, x)
        else:
            torch.testing.assert_close(plain(x, factor=2.0), 2 * plain(x))
