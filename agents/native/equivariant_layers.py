"""Equivariant layers: linear maps and convolutions between copies of the regular representation.

Activations are ``[batch, |G|, *shape]``. Row g is what the layer computes "in the frame of g", and
moving the input by h permutes the rows: ``f(hs)[g] = f(s)[g·h]``, the regular representation. What
is done to each row alone, whatever it is, commutes with that: activation functions, convolutions
with strides on images of any size, and a linear layer on the orbit of the input, ``f(s)[g] = W·gs``
(the lifting), which is every linear map from the input to regular representations there is.

These are the equivariant linear layers of MDP homomorphic networks (van der Pol et al. 2020, arXiv
2006.16908) and, for images, the group convolutions of Cohen & Welling 2016 (arXiv 1602.07576). For
regular representations the basis that the former find by projection and singular values is known:
one coefficient for each group element, and so no basis is stored.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equirl.agents.native.grid_moves import GridMove
from equirl.groups import FiniteGroup
from equirl.symmetry import Symmetry


class RegularLinear(nn.Linear):
    """``f'[g] = Σ_k W_k f[k·g] + b``, ``[batch, |G|, inputs] -> [batch, |G|, outputs]``.

    All linear maps from copies of the regular representation to copies of it: W commutes with the
    group exactly where its block from h to g depends on k = h·g⁻¹ alone. The weight
    ``[outputs, |G| · inputs]`` holds the W_k side by side.

    Args:
        inputs: copies of the regular representation that come in.
        outputs: copies that go out.
        group: the group G.
    """

    products: Tensor

    def __init__(self, inputs: int, outputs: int, group: FiniteGroup) -> None:
        super().__init__(group.order * inputs, outputs)
        self.order = group.order
        products = torch.from_numpy(group.table.T.flatten())  # row by row g, the |G| elements k·g
        self.register_buffer("products", products, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        neighbours = features.index_select(1, self.products)
        return super().forward(neighbours.view(features.shape[0], self.order, self.in_features))


class RegularConv2d(nn.Conv2d):
    """``F'[g] = Σ_k Ψ_k ⋆ k⁻¹F[k·g] + b``, ``[batch, |G|, channels, height, width]`` in and out.

    The group convolution of Cohen & Welling: row k·g lies turned by k against row g, and k⁻¹ turns
    it back before the filter looks at it. Strides and padding act within a frame, so the size of
    the image need not fit them.

    Args:
        channels: that come in.
        outputs: channels that go out.
        kernel_size: height and width of the filters.
        group: the group G.
        moves: how each element of G moves a square of pixels.
        stride: of the filters.
        padding: zeros around each row.
    """

    products: Tensor

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel_size: int,
        group: FiniteGroup,
        moves: list[GridMove],
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__(
            group.order * channels, outputs, kernel_size, stride=stride, padding=padding
        )
        self.order = group.order
        self.moves_back = [moves[int(group.inverses[k])] for k in range(group.order)]
        # Row by row g, the rows k·g, each among those that are turned back by its k.
        rows = np.arange(group.order) * group.order + group.table.T
        self.register_buffer("products", torch.from_numpy(rows.ravel()), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        turned = torch.stack([move(features) for move in self.moves_back], dim=1)
        neighbours = turned.flatten(1, 2).index_select(1, self.products)
        filtered = super().forward(
            neighbours.view(features.shape[0] * self.order, self.in_channels, *features.shape[-2:])
        )
        return filtered.view(features.shape[0], self.order, *filtered.shape[1:])


class LiftingConv2d(nn.Conv2d):
    """A convolution of each row alone: of the orbit of images, the lifting of Cohen & Welling."""

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, |G|, channels, height, width]`` in and out."""
        filtered = super().forward(images.flatten(0, 1))
        return filtered.view(images.shape[0], images.shape[1], *filtered.shape[1:])


class ActionValues(nn.Module):
    """``Q(a) = Σ_g v[ga]·f[g] + b[Ga]``, ``[batch, |G|, inputs] -> [batch, actions]``.

    All linear maps from copies of the regular representation to Q-values with Q(gs, ga) = Q(s, a):
    one vector v for each action, one bias for each orbit of actions.

    Args:
        inputs: copies of the regular representation that come in.
        symmetry: whose permutations move the actions.
    """

    elements_to_actions: Tensor
    orbits: Tensor

    def __init__(self, inputs: int, symmetry: Symmetry) -> None:
        super().__init__()
        order, actions = symmetry.permutations.shape
        first = symmetry.permutations.min(axis=0)  # the least action of each one's orbit
        names, orbits = np.unique(first, return_inverse=True)
        self.weight = nn.Parameter(torch.empty(actions, inputs))
        self.bias = nn.Parameter(torch.empty(len(names)))
        by_action = torch.from_numpy(symmetry.permutations.T.copy())
        self.register_buffer("elements_to_actions", by_action.flatten(), persistent=False)
        self.register_buffer("orbits", torch.from_numpy(orbits.reshape(-1)), persistent=False)
        # As nn.Linear draws its own, for as many units: |G| in every copy.
        bound = 1 / sqrt(order * inputs)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        rows = self.weight.index_select(0, self.elements_to_actions)
        matrix = rows.view(len(self.orbits), -1)
        return F.linear(features.flatten(1), matrix, self.bias.index_select(0, self.orbits))
