"""`FusedAdam`: a step of `torch.optim.Adam` without what it does around its one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")


class FusedAdam:
    """Steps of an Adam that has stepped before, its lists of tensors made once.

    Args:
        optimizer: which keeps its state and settings.
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        self._group = optimizer.param_groups[0]
        self._parameters: list[Tensor] = self._group["params"]
        own = [optimizer.state[p] for p in self._parameters]
        self._state = {name: [s[name] for s in own if name in s] for name in STATE}

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> FusedAdam | None:
        """None where the optimizer is another, has not stepped yet, or somebody listens to it."""
        if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
            return None
        group = optimizer.param_groups[0]
        is_heard = (
            optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or "step" in vars(optimizer)  # as learning-rate schedulers leave it
        )
        is_plain = group["fused"] and not group.get("decoupled_weight_decay", False)
        has_stepped = all(optimizer.state.get(p) for p in group["params"])
        return cls(optimizer) if is_plain and has_stepped and not is_heard else None

    @torch.no_grad()
    def step(self) -> None:
        """One step; every parameter must have its gradient."""
        group: dict[str, Any] = self._group
        torch._foreach_add_(self._state["step"], 1)
        torch._fused_adam_(
            self._parameters,
            [p.grad for p in self._parameters if p.grad is not None],
            self._state["exp_avg"],
            self._state["exp_avg_sq"],
            self._state["max_exp_avg_sq"],
            self._state["step"],
            amsgrad=group["amsgrad"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )
