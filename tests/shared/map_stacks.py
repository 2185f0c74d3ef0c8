"""Stacks of maps, what they do to a point entry by entry, and points of every dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from equirl.actions.affines import Affines
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]
UNSIGNED = [torch.uint8, torch.uint16, torch.uint32, torch.uint64]
DTYPES = [torch.bool, *SIGNED, *UNSIGNED, *FLOATS]

EXACT = {
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
    torch.float32: 2e-6,
    torch.float64: 1e-12,
}
"""Largest error, relative to the largest entry."""


def points(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Random ones, integers over the whole range that NumPy's int64 can hold of the dtype's."""
    rng = np.random.default_rng(seed)
    if dtype.is_floating_point:
        return torch.from_numpy(rng.normal(size=shape)).to(dtype)
    if dtype == torch.bool:
        return torch.from_numpy(rng.integers(0, 2, shape).astype(bool))
    bounds = torch.iinfo(dtype)
    name = str(dtype).removeprefix("torch.")
    array = rng.integers(bounds.min, bounds.max, shape, dtype=name, endpoint=True)
    return torch.from_numpy(array)


def signed_permutations(
    count: int, entries: int, rng: np.random.Generator, *, signs: bool = True, offsets: bool = True
) -> SignedPermutations:
    """Unrelated random maps: nothing here asks for a group."""
    index = np.stack([rng.permutation(entries) for _ in range(count)])
    sign = rng.choice([-1.0, 1.0], size=(count, entries)) if signs else None
    offset = rng.integers(-3, 4, (count, entries)).astype(np.float64) if offsets else None
    return SignedPermutations(index, sign, offset)


def affines(count: int, entries: int, rng: np.random.Generator) -> Affines:
    return Affines(rng.normal(size=(count, entries, entries)), rng.normal(size=(count, entries)))


def moved(maps: Maps, k: int, x: Any) -> Any:
    """Map k of one point ``[n]``, a float64 array, from the definition of its kind."""
    if isinstance(maps, Affines):
        return maps.matrix[k] @ x + maps.offset[k]
    assert isinstance(maps, SignedPermutations)
    y = [x[j] for j in maps.index[k]]
    if maps.sign is not None:
        y = [s * entry for s, entry in zip(maps.sign[k], y, strict=True)]
    if maps.offset is not None:
        y = [entry + b for b, entry in zip(maps.offset[k], y, strict=True)]
    return np.array(y)


def along(maps: Maps, x: Tensor) -> Tensor:
    """``[batch, K, n]``, point by point."""
    array = x.detach().double().numpy()
    return torch.from_numpy(
        np.array([[moved(maps, k, row[k]) for k in range(maps.count)] for row in array])
    ).reshape(x.shape)


def assert_near(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal up to the rounding of ``dtype``."""
    assert actual.shape == expected.shape
    size = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=0, atol=EXACT[dtype] * (1 + size)
    )
