"""What an observation map may be given as, and how each becomes a function on one observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from equirl.actions import Leaf
from equirl.errors import SymmetryError
from equirl.shown import reason, shown

ObservationMap = Callable[[Any], Any] | npt.ArrayLike | Mapping[str, Any] | None
"""A function; a permutation, signs or a matrix; one of these per key; None for no change."""


def as_function(
    title: str, given: ObservationMap, leaves: tuple[Leaf, ...]
) -> Callable[[Any], Any]:
    """The map as a function on one observation.

    Args:
        title: what it is called in messages, such as ``"observation map 'mirror'"``.
        given: the map as it was declared.
        leaves: what an observation consists of.

    Raises:
        SymmetryError: an array is not a map of such observations, or a key is missing or unknown.
    """
    if isinstance(given, Mapping):
        keys = [leaf.key for leaf in leaves if leaf.key is not None]
        if not keys:
            raise SymmetryError(f"{title} is a dict of maps, the space is one array: give one map")
        if set(given) != set(keys):
            raise SymmetryError(
                f"{title} is given for keys {shown(sorted(given, key=str))}, the "
                f"observation has {sorted(keys)}: give each key a map, None for one that stays as "
                "it is"
            )
        parts = {leaf.key: _leaf_function(title, given[str(leaf.key)], leaf) for leaf in leaves}
        return lambda observation: {key: part(observation[key]) for key, part in parts.items()}
    if given is None or callable(given):
        return _leaf_function(title, given, leaves[0])
    if leaves[0].key is not None:
        raise SymmetryError(
            f"{title} of a Dict space must be a function, or a dict of one map per key"
        )
    return _leaf_function(title, given, leaves[0])


def _leaf_function(title: str, given: Any, leaf: Leaf) -> Callable[[Any], Any]:
    if given is None:
        return lambda observation: observation
    if callable(given):
        return cast(Callable[[Any], Any], given)
    array, n = _numbers(title, given), leaf.size
    if leaf.low is not None and leaf.shape == () and leaf.values is not None:
        start, count = leaf.low[0], leaf.values[0]
        if array.shape == (count,) and np.array_equal(np.sort(array), np.arange(count) + start):
            return lambda observation: array[observation - start]
        raise SymmetryError(
            f"{title}: expected a permutation of {start} … {start + count - 1}, "
            f"got {shown(array.tolist())}"
        )
    if array.ndim == 1 and np.array_equal(np.sort(array), np.arange(n)):
        return lambda observation: observation.ravel()[array].reshape(observation.shape)
    if array.shape == (n,) and np.isin(array, (-1, 1)).all():
        return lambda observation: observation * array.reshape(observation.shape)
    if array.shape == (n, n):
        return lambda observation: (array @ observation.ravel()).reshape(observation.shape)
    raise SymmetryError(
        f"{title} has shape {array.shape}: for {leaf} of {n} entries give a "
        f"permutation of 0 … {n - 1}, {n} signs, a matrix ({n}, {n}), or a function"
    )


def _numbers(title: str, given: Any) -> npt.NDArray[Any]:
    """An observation map that is not a function, as an array of real numbers."""
    expected = f"{title} must be a function, a permutation, signs or a matrix, got {shown(given)}"
    try:
        array = np.asarray(given)
    except Exception as error:  # ragged, or a class of the caller's own
        raise SymmetryError(f"{expected} ({reason(error)})") from error
    if array.dtype.kind not in "biuf":
        raise SymmetryError(expected)
    return array
