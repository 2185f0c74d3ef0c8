"""Bringing what is given as a point to the dtype of its space, before anything moves it."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equirl.actions.layout import Leaf
from equirl.errors import SymmetryError
from equirl.shown import reason, shown

Bounds = tuple[Any, Any]
"""Least and greatest value of each entry, ``[*shape]`` each, or one number each for all."""


def bounds_of(leaf: Leaf) -> Bounds | None:
    """The least and greatest values of finite entries; None for numbers of a Box."""
    if leaf.low is None or leaf.values is None:
        return None
    low = np.array(leaf.low, dtype=np.int64)
    return between(low, low + np.array(leaf.values, dtype=np.int64) - 1, leaf.shape)


def between(low: npt.NDArray[Any], high: npt.NDArray[Any], shape: tuple[int, ...]) -> Bounds:
    """The bounds of entries of this shape, from those of each flat entry."""
    low, high = low.reshape(shape), high.reshape(shape)
    if (low == low.flat[0]).all() and (high == high.flat[0]).all():
        return int(low.flat[0]), int(high.flat[0])
    return low, high


def in_space(given: Any, leaf: Leaf, bounds: Bounds | None) -> Any:
    """What was given for a leaf, as an array or tensor that can be moved without being rounded.

    Whole numbers, and arrays of less precise floats, become floats of the space where it says
    float; other floats keep their precision.

    Args:
        given: an array, a tensor, or what NumPy makes an array of.
        leaf: whose dtype counts.
        bounds: `bounds_of` the leaf.

    Raises:
        SymmetryError: these are not numbers, or not of the leaf's finitely many values. The values
            of tensors on a GPU, or in a graph that is being recorded, are not looked at.
    """
    if isinstance(given, torch.Tensor):
        return _tensor_in_space(given, leaf, bounds)
    array = _numbers(given, leaf)
    if not leaf.dtype or array.dtype == leaf.dtype:
        if bounds is not None and array.dtype != np.bool_:
            _check_values(array, leaf, bounds)
        return array
    if bounds is not None:
        _check_values(array, leaf, bounds)
    elif array.dtype.kind == "f" and not _is_to_be_cast(array.dtype, leaf):
        return array
    cast = array.astype(leaf.dtype)
    if not leaf.is_float and (cast != array).any():
        raise _refused(leaf, array[cast != array].flat[0])
    return cast


def _is_to_be_cast(dtype: np.dtype[Any], leaf: Leaf) -> bool:
    """Whether floats are in another byte order, or less precise than the leaf's."""
    return not dtype.isnative or (leaf.is_float and dtype.itemsize < np.dtype(leaf.dtype).itemsize)


def _tensor_in_space(x: torch.Tensor, leaf: Leaf, bounds: Bounds | None) -> torch.Tensor:
    if not leaf.dtype:
        return x
    dtype: torch.dtype = getattr(torch, leaf.dtype)
    if bounds is not None:
        if x.dtype != torch.bool and _may_look_at(x):
            _check_values(x.detach().numpy(), leaf, bounds)
        return x if x.dtype == dtype else x.to(dtype)
    return x.to(dtype) if leaf.is_float and not x.is_floating_point() else x


def _may_look_at(x: torch.Tensor) -> bool:
    # What torch.jit.is_tracing asks, which torch does not export.
    recorded = torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()
    plain = type(x) in (torch.Tensor, torch.nn.Parameter)  # a fake tensor holds no numbers
    return plain and x.device.type == "cpu" and not recorded


def _check_values(array: npt.NDArray[Any], leaf: Leaf, bounds: Bounds) -> None:
    low, high = bounds
    wrong = ~((array >= low) & (array <= high))
    if array.dtype.kind == "f":
        wrong |= array != np.rint(array)
    if wrong.any():
        entry = np.broadcast_to(low, array.shape)[wrong][0], np.broadcast_to(high, wrong.shape)
        allowed = f"{entry[0]} … {entry[1][wrong][0]}"
        raise _refused(leaf, array[wrong].flat[0], f", whose values are {allowed}")


def _numbers(given: Any, leaf: Leaf) -> npt.NDArray[Any]:
    try:
        array = np.asarray(given)
        if array.dtype == np.object_:
            strange = [v for v in array.flat if not isinstance(v, Real | np.bool_)]
            if strange:
                raise _refused(leaf, strange[0])
            # Through the narrowest dtype of numbers that holds them all.
            array = np.array(array.ravel().tolist()).reshape(array.shape)
    except SymmetryError:
        raise
    except Exception as error:  # ragged lists, or a class of the caller's own
        raise SymmetryError(f"{leaf} is not an array of numbers: {reason(error)}") from error
    if array.dtype.kind not in "biuf":
        raise _refused(leaf, given)
    return array


def _refused(leaf: Leaf, value: Any, allowed: str = "") -> SymmetryError:
    value = value.item() if isinstance(value, np.generic) else value
    return SymmetryError(f"{shown(value)} is not a value of {leaf}{allowed}")
