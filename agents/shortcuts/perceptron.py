"""Linear layers with ReLUs between them, run in fewer operations than PyTorch's modules take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

NARROW = 8
"""Below this many columns (entries of an observation, say) a product is made transposed."""


class Perceptron:
    """W_n · relu(… relu(W_1 x + b_1) …) + b_n, and its gradient written out.

    For small layers autograd's bookkeeping takes as long as their arithmetic. To be called where
    gradients are off.

    Args:
        layers: the linear layers, which stay whose they are.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.layers = list(layers)

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> Perceptron | None:
        """None where the modules are anything but Linear, ReLU, Linear, …, Linear."""
        *pairs, last = list(modules) or [nn.Identity()]
        linear, between = [*pairs[::2], last], pairs[1::2]
        if len(pairs) % 2 or any(type(module) is not nn.ReLU for module in between):
            return None
        found = [m for m in linear if type(m) is nn.Linear and m.bias is not None]
        return cls(found) if len(found) == len(linear) else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """What each layer is given, ``[rows, entries]``, and last what the last one makes of it."""
        given = [x]
        for layer in self.layers[:-1]:
            given.append(F.linear(given[-1], layer.weight, layer.bias).relu_())
        last = self.layers[-1]
        return [*given, F.linear(given[-1], last.weight, last.bias)]

    def backward(self, given: Sequence[Tensor], slope: Tensor) -> None:
        """Write the gradient of a loss L into the ``grad`` of each parameter, which must be there.

        Args:
            given: what each layer was given; all but x is overwritten, as new memory costs more
                than the arithmetic. Anything after that is not looked at.
            slope: ∂L/∂output, ``[rows, outputs]``.
        """
        for number in reversed(range(len(self.layers))):
            layer = self.layers[number]
            _transposed_product(slope, given[number], layer.weight.grad)
            torch.sum(slope, 0, out=layer.bias.grad)
            if number:
                slope = torch.mm(slope, layer.weight).mul_(
                    given[number].sign_()
                )  # 1 where ReLU ran


def _transposed_product(slope: Tensor, given: Tensor, out: Tensor | None) -> None:
    """slopeᵀ · given; torch makes one of a few columns in twice the time of its transpose."""
    assert out is not None
    if given.shape[1] < NARROW:
        out.copy_(torch.mm(given.t(), slope).t())
    else:
        torch.mm(slope.t(), given, out=out)


def run_layers(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """The layers one after the other; a ReLU overwrites what the linear layer before it made."""
    is_ours = False
    for layer in layers:
        if type(layer) is nn.Linear and has_no_hooks(layer):
            x, is_ours = F.linear(x, layer.weight, layer.bias), True
        elif is_ours and type(layer) is nn.ReLU and has_no_hooks(layer):
            x = x.relu_()
        else:
            x, is_ours = layer(x), False
    return x


def has_no_hooks(module: nn.Module) -> bool:
    """Whether nothing of the user's own runs when the module does."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
        or _has_any_global_hook()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    )
