"""What the training steps of actors and critics have in common."""

from __future__ import annotations

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
    return any(
        getattr(type(model), name) is not getattr(base, name) or name in vars(model)
        for name in names
    )
