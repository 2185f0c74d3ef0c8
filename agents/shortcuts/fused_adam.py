"""`adam_step`: a step of `torch.optim.Adam` without what it does around its one kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim import Adam, Optimizer

STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")


def adam_step(optimizer: Optimizer) -> Callable[[], object]:
    """The quicker step of an Adam that has stepped before, and of all others ``optimizer.step``.

    Every parameter must have its gradient. Hooks of the optimizer are not called.
    """
    group = optimizer.param_groups[0]
    parameters = group["params"]
    states = [optimizer.state.get(p) for p in parameters]
    is_fused = type(optimizer) is Adam and len(optimizer.param_groups) == 1 and group["fused"]
    if not is_fused or group.get("decoupled_weight_decay", False) or not all(states):
        return optimizer.step
    lists = [[state[name] for state in states if state and name in state] for name in STATE]

    @torch.no_grad()
    def step() -> None:
        torch._foreach_add_(lists[-1], 1)
        torch._fused_adam_(
            parameters,
            [p.grad for p in parameters],
            *lists,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=group["amsgrad"],
            maximize=group["maximize"],
        )

    return step
