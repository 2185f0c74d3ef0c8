"""How the observations of a space lie as flat points: which leaf, in which order, of which kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.errors import SymmetryError
from equirl.shown import shown

Block = tuple[int, ...]
"""Positions of the leaves that a map may mix with each other."""


@dataclass(frozen=True)
class Leaf:
    """One array of an observation: the whole of it, or one key of a Dict.

    Args:
        key: its key in the Dict space, None where the observation is this one array.
        shape: its shape, as the environment gives it.
        dtype: its NumPy dtype name, such as ``"float32"``; empty where points keep their own.
        low: smallest value of each flat entry, for entries with finitely many values, else None.
        values: how many values each flat entry has, likewise.
        what: it is part of, for messages.
    """

    key: str | None
    shape: tuple[int, ...]
    dtype: str
    low: tuple[int, ...] | None = None
    values: tuple[int, ...] | None = None
    what: str = field(default="observation", compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of flat entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def kind(self) -> str:
        """What may be exchanged with what: ``"finite"`` or the dtype of a Box."""
        return self.dtype if self.low is None else "finite"

    @property
    def is_float(self) -> bool:
        """Whether its entries are floating-point numbers."""
        return bool(self.dtype) and np.dtype(self.dtype).kind == "f"

    def __str__(self) -> str:
        return f"the {self.what}" if self.key is None else f"{self.what}[{self.key!r}]"


def leaves_of(space: spaces.Space[Any], what: str = "observation") -> tuple[Leaf, ...]:
    """The arrays that an observation (or what else) of ``space`` consists of.

    Raises:
        SymmetryError: symmetries do not act on spaces of this kind, or its observations are empty.
    """
    if isinstance(space, spaces.Dict):
        leaves = []
        for key, part in space.spaces.items():
            if isinstance(part, spaces.Dict):
                raise SymmetryError(
                    f"observation[{key!r}] is a Dict inside a Dict: flatten it first "
                    "(gymnasium.wrappers.FlattenObservation)"
                )
            leaves.append(_leaf(key, part))
        if not leaves:
            raise SymmetryError("the observation space is a Dict without any parts")
        return tuple(leaves)
    return (replace(_leaf(None, space), what=what),)


def _leaf(key: str | None, space: spaces.Space[Any]) -> Leaf:
    where = "the observation space" if key is None else f"observation[{key!r}]"
    if not isinstance(space, spaces.Space):
        raise SymmetryError(f"{where} must be a Gymnasium space, got {shown(space)}")
    shape, dtype = space.shape, np.dtype(space.dtype).name if space.dtype is not None else ""
    if shape is not None and 0 in shape:
        raise SymmetryError(f"{where} has no entries, its shape is {shape}")
    if dtype in ("float128", "float96"):
        raise SymmetryError(f"{where} holds {dtype}, which PyTorch lacks: cast it to float64")
    if isinstance(space, spaces.Box) and space.dtype == np.bool_:
        return _finite(key, space.shape, dtype, 0, np.full(space.shape, 2))
    if isinstance(space, spaces.Box):
        return Leaf(key, space.shape, dtype)
    if isinstance(space, spaces.Discrete):
        return _finite(key, (), dtype, space.start, np.array(space.n))
    if isinstance(space, spaces.MultiBinary) and shape is not None:
        return _finite(key, shape, dtype, 0, np.full(shape, 2))
    if isinstance(space, spaces.MultiDiscrete):
        return _finite(key, space.nvec.shape, dtype, space.start, space.nvec)
    raise SymmetryError(
        f"{where} is a {type(space).__name__}: symmetries act on Box, Discrete, MultiBinary, "
        "MultiDiscrete, or a Dict of these"
    )


def _finite(
    key: str | None, shape: tuple[int, ...], dtype: str, start: Any, values: npt.NDArray[Any]
) -> Leaf:
    low = np.broadcast_to(np.asarray(start), shape)
    return Leaf(
        key,
        shape,
        dtype,
        tuple(int(v) for v in low.ravel()),
        tuple(int(v) for v in np.asarray(values).ravel()),
    )


def as_leaves(observation: Any, leaves: tuple[Leaf, ...]) -> list[Any]:
    """The arrays of an observation (or of a batch of them), in the order of ``leaves``."""
    if leaves[0].key is None:
        return [observation]
    if not isinstance(observation, Mapping):
        raise SymmetryError(f"expected a dict observation, got {type(observation).__name__}")
    missing = [leaf.key for leaf in leaves if leaf.key not in observation]
    if missing:
        raise SymmetryError(f"the observation lacks {missing}, it has {list(observation)}")
    return [observation[cast(str, leaf.key)] for leaf in leaves]


def from_leaves(arrays: list[Any], leaves: tuple[Leaf, ...]) -> Any:
    """The inverse of `as_leaves`."""
    if leaves[0].key is None:
        return arrays[0]
    return {cast(str, leaf.key): array for leaf, array in zip(leaves, arrays, strict=True)}
