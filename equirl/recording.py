"""Whether PyTorch is recording a graph, where nothing may depend on the values of tensors."""

import torch


def is_recording() -> bool:
    """Whether a graph is being recorded that is to hold for other inputs than those at hand.

    True in `torch.jit.trace`, `torch.export` and `torch.onnx.export`, and where tangents are
    carried forward (`torch.autograd.forward_ad`). `torch.compile` does not count: it compiles anew
    where values decide.
    """
    # Torch leaves is_tracing untyped.
    is_tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    # The flag behind `torch.compiler.is_exporting`, which is True in `torch.compile` as well before
    # PyTorch 2.14 (pytorch/pytorch#176347).
    has_tangents = torch.autograd.forward_ad._current_level >= 0
    return bool(is_tracing or torch.compiler._is_exporting_flag or has_tangents)
