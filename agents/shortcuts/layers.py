"""Layers in NumPy: for a few rows PyTorch's calls take longer than their arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from equirl.agents.shortcuts.perceptron import has_no_hooks

Array = npt.NDArray[Any]

Layers = list[Any]
"""What `run` takes: weights and biases as arrays, and activations."""


def layers_of(modules: Iterable[nn.Module], dtype: torch.dtype) -> Layers | None:
    """The layers as they are now; None where `run` does not compute what they do, on a CPU."""
    found: Layers = []
    for module in modules:
        kind = type(module)
        if not has_no_hooks(module):
            return None
        if kind is nn.Linear:
            own = module._parameters
            weight, bias = own["weight"], own["bias"]
            if weight is None or bias is None or weight.dtype != dtype or weight.is_cuda:
                return None
            found.append((weight.detach().numpy(), bias.detach().numpy()))
        elif kind in (nn.ReLU, nn.Tanh, nn.Hardtanh):
            found.append(module)
        else:
            return None
    return found


def each_of(networks: Iterable[Iterable[nn.Module]], dtype: torch.dtype) -> list[Layers] | None:
    """`layers_of` of each; None where it is for one of them."""
    found = []
    for network in networks:
        layers = layers_of(network, dtype)
        if layers is None:
            return None
        found.append(layers)
    return found


def run(layers: Layers, x: Array) -> Array:
    """The layers one after the other, ``[rows, entries]`` in and out."""
    for layer in layers:
        if isinstance(layer, tuple):
            weight, bias = layer
            x = x @ weight.T
            x += bias
        elif isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, nn.Hardtanh):
            x = x.clip(layer.min_val, layer.max_val)
        else:
            x = np.tanh(x)
    return x
