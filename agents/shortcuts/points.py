"""Orbits of a batch of vectors in NumPy: which points a network is run on, and what follows.

A call of PyTorch takes a few times as long to begin as NumPy's, and for a few numbers that is all
the time it takes. The numbers are the reference's up to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from equirl.actions import Affines, GroupAction, SignedPermutations
from equirl.agents.shortcuts.layers import Array, layers_of, run
from equirl.agents.shortcuts.perceptron import has_no_hooks
from equirl.recording import is_recording
from equirl.symmetrize import INFINITE_BETA, TIE_TOLERANCE, LambdaWeighting, Symmetrized
from equirl.symmetrize.lexicographic import FEW


def are_vectors(network: Any, symmetrized: Symmetrized, obs: Any) -> bool:
    """Whether NumPy may look at these observations and move them as the reference does."""
    space, inverse = network.observation_space, symmetrized.output_action
    return (
        network.shortcuts
        and not is_recording()  # first, as a graph must not depend on the number of rows
        and symmetrized.order > 1
        and type(obs) is Tensor  # a fake tensor holds no numbers
        and obs.device.type == "cpu"
        and not obs.requires_grad
        and obs.dtype in (torch.float32, torch.float64)
        and isinstance(space, spaces.Box)
        and space.dtype == np.float32
        and obs.shape[1:] == space.shape
        and len(space.shape) < 3  # images are preprocessed
        and len(obs) > 0
        and not symmetrized.method.scores_input
        and isinstance(inverse, GroupAction)
        and isinstance(inverse.maps[0], SignedPermutations)
        and inverse.maps[0].offset is None
        and isinstance(symmetrized.input_action.maps[0], (SignedPermutations, Affines))
        and has_no_hooks(symmetrized)
        and not torch.compiler.is_compiling()
    )


FEW_ROWS = 16
"""Up to this many points gs a network is run in NumPy."""


class Points:
    """The points of a batch of orbits that a network has to be run on.

    Args:
        symmetrized: whose they are.
        obs: s, ``[batch, *shape]``.
    """

    rows: Array | None
    """The points, flat, ``[batch · |G|, entries]``, or where one of each orbit is chosen these,
    ``[batch, entries]``; None where PyTorch has to choose, as several are equal or not finite."""

    def __init__(self, symmetrized: Symmetrized, obs: Tensor) -> None:
        self._symmetrized, self._dtype = symmetrized, obs.dtype
        self._chosen: Array | None = None
        flat = obs.numpy().reshape(len(obs), -1)
        self._orbit: Array = symmetrized.input_action.maps[0].orbit(flat)  # [batch, |G|, entries]
        if symmetrized.method.is_fixed:
            self._choose(self._largest())
        else:
            self.rows = self._orbit.reshape(-1, self._orbit.shape[2])

    def along(self, rows: Array) -> Array:
        """``[batch · |G|, …] -> [batch, |G|, …]``."""
        return rows.reshape(-1, self._symmetrized.order, *rows.shape[1:])

    def choose_best(self, scores: Array, scale: Array) -> None:
        """Keep of each orbit the point of the largest score; arguments as of `combined`."""
        best = scores >= self._least(scores, scale)
        self._choose(best.argmax(axis=1) if (best.sum(axis=1) == 1).all() else None)

    def moved_back(self, outputs: Tensor) -> Tensor:
        """g⁻¹M(gs) of the chosen points, from M(gs), ``[batch, outputs]`` in and out, by PyTorch.

        Its gradient is that of the reference.
        """
        assert self._chosen is not None
        maps = self._inverse_maps
        back = outputs.gather(1, torch.from_numpy(maps.arrays["index"][self._chosen]))
        sign = maps.arrays["sign"]
        return back if sign is None else back * torch.from_numpy(sign[self._chosen]).to(back.dtype)

    def combined(
        self, outputs: Array, scores: Array | None, scale: Array | None, features: Array
    ) -> Tensor | None:
        """Σ_g w_g(s) · g⁻¹M(gs), ``[batch, outputs]``; None where some are not finite.

        Args:
            outputs: M(gs) of every row.
            scores: of gs, ``[batch, |G|]``, of a method that needs them.
            scale: of the numbers that the scores came from, ``[batch]``.
            features: of gs, of every row.
        """
        if not math.isfinite(outputs.sum()):
            return None
        maps = self._inverse_maps
        sign = maps.arrays["sign"]
        if self._chosen is not None:
            row = np.arange(len(outputs))[:, None]
            found = outputs[row, maps.arrays["index"][self._chosen]]
            if sign is not None:
                found *= sign[self._chosen]
            return torch.from_numpy(found)
        branches = self.along(outputs)
        k = np.arange(self._symmetrized.order)[:, None]
        branches = branches[:, k, maps.arrays["index"]]
        if sign is not None:
            branches *= sign
        if scores is None or scale is None:
            return torch.from_numpy(branches.mean(axis=1))
        weights = self._weights(scores, scale, features)
        return torch.from_numpy((weights[..., None] * branches).sum(axis=1, dtype=branches.dtype))

    @property
    def _inverse_maps(self) -> Any:
        return self._symmetrized.output_action.inverse_maps

    def _choose(self, chosen: Array | None) -> None:
        self._chosen, self.rows = chosen, None
        if chosen is not None:
            self.rows = self._orbit[np.arange(len(chosen)), chosen]

    def _largest(self) -> Array | None:
        """The elements ``[batch]`` that `equirl.symmetrize.lexicographic` chooses, if one leads."""
        first = self._symmetrized.input_action.first_moved
        if first is None:
            return None
        slack = TIE_TOLERANCE[self._dtype] * np.abs(self._orbit).max(axis=(1, 2))[:, None]
        leading: Array | None = None
        for entry in self._orbit.transpose(2, 0, 1)[first : first + FEW]:
            masked = entry if leading is None else np.where(leading, entry, -np.inf)
            ahead = masked >= masked.max(axis=1, keepdims=True) - slack
            leading = ahead if leading is None else leading & ahead
            if (leading.sum(axis=1) == 1).all():
                chosen: Array = leading.argmax(axis=1)
                return chosen
        return None

    def _least(self, scores: Array, scale: Array) -> Array:
        """What a score must reach to count as the best of its orbit, ``[batch, 1]``."""
        least: Array = (scores.max(axis=1) - TIE_TOLERANCE[self._dtype] * scale)[:, None]
        return least

    def _weights(self, scores: Array, scale: Array, features: Array) -> Array:
        """As `shared_among_best` and `LambdaWeighting` give them, ``[batch, |G|]``."""
        least = self._least(scores, scale)
        weighting: LambdaWeighting | None = self._symmetrized.weighting
        beta = math.inf if weighting is None else math.sinh(float(weighting.asinh_beta))
        if weighting is None or beta >= INFINITE_BETA:
            shares = (scores >= least).astype(scores.dtype)
        else:
            running = float(weighting.running_score_spread)
            unit = np.maximum(1e-4 * scale, running if running > 0 else 1.0)[:, None]
            h = layers_of(weighting.h, self._dtype)
            assert h is not None
            logits = self.along(run(h, features))[..., 0]
            logits = logits + beta * np.minimum(scores - least, 0) / unit
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        normalised: Array = shares / shares.sum(axis=1, keepdims=True)
        return normalised
