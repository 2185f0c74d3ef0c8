"""`FasterArithmetic`: the hooks of `EquivariantDQN` through `torch.compile`, or in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from equirl.agents.dqn.dqn import EquivariantDQN


class FasterArithmetic:
    """What `targets` or `loss` becomes with the options ``compile`` and ``bf16``.

    Args:
        model: the agent.
        name: of the hook. It may be overridden.
    """

    def __init__(self, model: EquivariantDQN, name: str) -> None:
        self._model = model
        # Not the bound method: compiled, it would be this model's in every copy of it.
        self._hook = getattr(type(model), name)
        if model.compile:
            mode = "reduce-overhead" if model.device.type == "cuda" else None
            self._hook = torch.compile(self._hook, mode=mode)

    def __call__(self, *given: Any) -> Tensor:
        model = self._model
        if model.compile:  # results of earlier calls are no longer needed
            # Torch leaves it untyped.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.bf16):
            result: Tensor = self._hook(model, *given)
        # A CUDA graph writes its next result in the same place.
        return result.clone() if model.compile else result
