"""For tests of users' own networks: is f(gx) = g f(x)?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equirl.actions import GroupAction
from equirl.symmetrize import TIE_TOLERANCE, OutputAction

TOLERANCE = TIE_TOLERANCE
"""Largest error by dtype, relative to max(1, |f(x)|): 1e-5 in float32, 1e-12 in float64."""


def assert_equivariant(
    f: Callable[[Any], Any],
    in_action: GroupAction,
    out_action: OutputAction,
    x: Any,
    *,
    tolerance: float | None = None,
    seed: int | None = None,
) -> None:
    """Assert that f(gx) = g f(x) for every element g.

    Args:
        f: takes a batch, gives a tensor, or a tuple or dict of tensors. A module is copied before
            each call, so that statistics it keeps change nothing.
        in_action: of the group on inputs.
        out_action: of the same group on outputs; a tuple or dict of actions where f gives one.
            `GroupAction.trivial` says that an output is invariant.
        x: ``[batch, *shape]``, or a dict of such tensors.
        tolerance: largest error, relative to max(1, |f(x)|); left out, `TOLERANCE` of each output,
            0 for whole numbers.
        seed: draws another element for every row, where trying all of them takes too long.

    Raises:
        AssertionError: with the element, the row and the size of the largest error. What is not
            finite is an error.

    Example:
        >>> from equirl.groups import cyclic
        >>> turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
        >>> turn = GroupAction.on_vectors(cyclic(3), permutations=turns)
        >>> assert_equivariant(torch.relu, turn, turn, torch.randn(5, 3))
        >>> assert_equivariant(lambda x: x[:, :1], turn, GroupAction.trivial(cyclic(3), (1,)),
        ...                    torch.eye(3))
        Traceback (most recent call last):
        AssertionError: f(gx) differs from g f(x) by 1 (tolerance 1e-05) for g = 'r', row 0
    """
    group = in_action.group
    before = _named(_fresh(f)(x))
    actions = _named(out_action)
    if before.keys() != actions.keys():
        raise AssertionError(f"f gives {list(before)}, out_action has {list(actions)}")
    rows = len(next(iter(before.values())))
    if seed is None:
        drawn = [np.full(rows, g) for g in range(group.order)]
    else:
        drawn = [np.random.default_rng(seed).integers(group.order, size=rows)]
    for g in drawn:
        after = _named(_fresh(f)(in_action.transform(g, x)))
        for name, y in before.items():
            error = _errors(after[name].detach(), actions[name].transform(g, y.detach()))
            allowed = TOLERANCE.get(y.dtype, 0.0) if tolerance is None else tolerance
            row = int(error.argmax())
            if not float(error[row]) <= allowed:
                where = f"row {row}" if name is None else f"row {row} of output {name!r}"
                raise AssertionError(
                    f"f(gx) differs from g f(x) by {float(error[row]):.3g} (tolerance {allowed:g}) "
                    f"for g = {group.names[g[row]]!r}, {where}"
                )


def _errors(actual: Tensor, expected: Tensor) -> Tensor:
    """``[rows]``: the largest of each row, infinite where something is not finite."""
    actual, expected = actual.double().flatten(1), expected.double().flatten(1)
    errors = (actual - expected).abs() / expected.abs().clamp(min=1)
    return errors.nan_to_num(nan=torch.inf).amax(dim=1)


def _fresh(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return copy.deepcopy(f) if isinstance(f, nn.Module) else f


def _named(outputs: Any) -> dict[Any, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    return dict(enumerate(outputs)) if isinstance(outputs, tuple) else {None: outputs}
