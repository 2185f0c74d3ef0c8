"""Whether PyTorch is recording a graph, in which nothing may depend on the numbers at hand."""

import torch


def is_recording() -> bool:
    """Whether a graph is being recorded that is to hold for other inputs than those at hand.

    So it is in `torch.jit.trace`, `torch.export` and `torch.onnx.export`. `torch.compile` comes
    back where numbers decide, and does not count.
    """
    # Torch leaves is_tracing untyped.
    is_tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(is_tracing or torch.compiler.is_exporting())
