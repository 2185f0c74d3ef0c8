"""Measuring symmetry: does this function really have it, and to what accuracy?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equirl.group_actions import GroupAction


@torch.no_grad()
def equivariance_error(
    function: Callable[[Any], Tensor],
    input_action: GroupAction,
    output_action: GroupAction,
    x: Any,
) -> float:
    """max over g and the batch of |f(gx) − g·f(x)|, the largest entry.

    Args:
        function: f, ``[batch, *X] -> [batch, *Y]``.
        input_action: the group acting on X.
        output_action: the same group acting on Y.
        x: ``[batch, *X]``, a tensor or a dict of tensors.
    """
    group = input_action.group
    y = function(x)
    errors = [
        (function(input_action.transform(g, x)) - output_action.transform(g, y)).abs().max()
        for g in range(1, group.order)
    ]
    return max((float(error) for error in errors), default=0.0)
