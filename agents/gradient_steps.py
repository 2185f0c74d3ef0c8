"""What the training steps of actors and critics have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def minimize(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """One step of the optimizer; gradients for its own parameters alone.

    So an actor's loss computes the slope of the critic in the actions, but not in the critic's
    parameters, which is a third of the work of its backward pass.

    Args:
        optimizer: of the parameters to change.
        loss: a scalar.

    Returns:
        The loss, without its graph.
    """
    optimizer.zero_grad()
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    torch.autograd.backward(loss, inputs=parameters)
    optimizer.step()
    return loss.detach()


def overrides(model: object, base: type, names: tuple[str, ...]) -> bool:
    """Whether a class, or the model itself, has other methods of these names than ``base``."""
    kind = type(model)
    if not vars(model).keys().isdisjoint(names):
        return True
    return any(getattr(kind, name) is not getattr(base, name) for name in names)


class WithLoss(torch.autograd.Function):
    """x, and a scalar loss that is added to whatever loss is computed from x.

    The gradient of x passes as it comes; that of the loss is 1. So a term is added where code that
    is not ours sums the loss up.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        """``x``."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        """The slope of x, and 1."""
        (slope,) = slopes
        return slope, torch.ones((), dtype=slope.dtype, device=slope.device)
