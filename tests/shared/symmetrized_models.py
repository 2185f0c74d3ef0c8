"""Models, symmetrized in every way, and how far from equivariant they are.

Random cases are drawn from fixed seeds: near a tie that is no tie, rounding decides, and a test
that meets one such input in a million runs would teach nobody anything.
"""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized, Symmetry
from shared.representations import GROUPS, size
from shared.tried import examples

property_based = settings(deadline=None, derandomize=True, max_examples=examples(10))
a_few = settings(property_based, max_examples=examples(6))

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


def mlp(entries: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(entries, 24), nn.Tanh(), nn.Linear(24, outputs))


def batch_normed(entries: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(entries, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, outputs)
    )


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


def on_stabilised(action: GroupAction, x: Tensor, rng: np.random.Generator) -> Tensor:
    """The points moved onto those that a random subgroup leaves where they are."""
    members = action.group.generated_by(rng.integers(0, action.group.order, size=2))
    return action.orbit(x)[list(members)].mean(dim=0)


group_and_seed = st.tuples(st.sampled_from(GROUPS), st.integers(0, 2**31 - 1))
method_names = st.sampled_from(sorted(METHODS))
dtypes = st.sampled_from([torch.float32, torch.float64])


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
