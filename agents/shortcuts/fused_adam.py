"""`FusedAdam`: a step of `torch.optim.Adam` without what it does around its one kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
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
        self._optimizer_state = optimizer.state
        self._take(self._group["params"])

    def _take(self, parameters: Sequence[Tensor]) -> None:
        own = [self._optimizer_state[p] for p in parameters]
        self._parameters = list(parameters)
        self._gradients: list[Tensor] | None = None
        self._state = {name: [s[name] for s in own if name in s] for name in STATE}
        self._counts = self._state["step"]

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

    @contextmanager
    def in_one_piece(self, parameters: Sequence[Tensor], gradient: Tensor) -> Iterator[None]:
        """Within it a step is one call of the kernel on one tensor; the numbers agree to rounding.

        Parameters and moments are views of one piece of memory each, which the optimizer sees as
        well; afterwards, whatever happened, they are the tensors that they were.

        Args:
            parameters: all that the optimizer moves, of one dtype and device.
            gradient: theirs, one after the other, ``[entries]``.
        """
        own = [self._optimizer_state[p] for p in parameters]
        steps = {float(s["step"]) for s in own}
        places = {p.data_ptr() for p in parameters}
        if len(steps) > 1 or len(places) < len(parameters):  # the kernel counts for all at once
            yield
            return
        names = list(own[0])
        apart = [[p.data for p in parameters], *([s[name] for s in own] for name in names)]
        pieces = [torch.cat([part.flatten() for part in parts]) for parts in apart]
        views = [_split(piece, parts) for piece, parts in zip(pieces, apart, strict=True)]

        def place(data: list[Tensor], *state: list[Tensor]) -> None:
            for p, part in zip(parameters, data, strict=True):
                p.data = part
            for name, parts in zip(names, state, strict=True):
                for s, part in zip(own, parts, strict=True):
                    s[name] = part

        try:
            place(*views)
            self._parameters, self._gradients = pieces[:1], [gradient]
            whole = dict(zip(names, pieces[1:], strict=True))
            self._counts = [whole["step"]]
            whole["step"] = whole["step"][0]  # one of as many as there are parameters
            self._state = {name: [whole[name]] if name in whole else [] for name in STATE}
            yield
        finally:
            torch._foreach_copy_([*chain(*apart)], [*chain(*views)])
            place(*apart)
            self._take(parameters)

    @torch.no_grad()
    def step(self) -> None:
        """One step; every parameter must have its gradient."""
        group: dict[str, Any] = self._group
        gradients = self._gradients or [p.grad for p in self._parameters if p.grad is not None]
        torch._foreach_add_(self._counts, 1)
        torch._fused_adam_(
            self._parameters,
            gradients,
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


def _split(piece: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Views of the piece, one after the other, shaped as the parts."""
    flat = piece.split_with_sizes([part.numel() for part in parts])
    return [view.view(part.shape) for view, part in zip(flat, parts, strict=True)]
