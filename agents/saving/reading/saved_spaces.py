"""The spaces that an agent was trained on, read without running anything, and compared."""

from __future__ import annotations

import base64
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.agents.saving.reading.inert_pickles import Inert, read_inertly, value_of

LIBRARIES = ("gymnasium", "gym")
"""Whose spaces are known. Agents of SB3 before version 2 have those of gym."""

UNBOUNDED = float(np.finfo(np.float32).max)
"""What older versions wrote for infinity."""


@dataclass(frozen=True)
class SavedSpace:
    """A space as an agent's file has it.

    Args:
        space: the same in today's Gymnasium, keys in the order saved; None where only running the
            file's pickle would tell.
        is_gym: whether it is of gym, the library before Gymnasium. Between the two, environments
            changed the bounds and float widths of their spaces.
        description: the attributes that SB3 writes beside the pickle as text.
    """

    space: spaces.Space[Any] | None
    is_gym: bool
    description: dict[str, Any]

    def __str__(self) -> str:
        if self.space is not None:
            return str(self.space)
        kind = str(self.description.get(":type:", "")).split(".")[-1].strip("'>") or "a space"
        return f"{kind} of shape {self.description.get('_shape', self.description.get('shape'))}"

    @property
    def is_dict(self) -> bool:
        """Whether observations are dicts."""
        if self.space is None:
            return "dict.Dict" in str(self.description.get(":type:"))
        return isinstance(self.space, spaces.Dict)

    def equals(self, other: spaces.Space[Any]) -> bool:
        """Whether the agent was made for this space.

        As SB3 compares when it loads an agent: by everything but the order of a Dict's keys. Of a
        gym space, bounds and float widths do not count.
        """
        if self.space is None:
            return self._description_equals(other)
        return _equal(self.space, other, not self.is_gym)

    def _description_equals(self, other: spaces.Space[Any]) -> bool:
        if self.is_dict or isinstance(other, spaces.Dict):
            return False  # the text does not tell the keys
        described = {"_shape": self.description.get("shape"), **self.description}
        known: dict[str, Any] = {"_shape": list(other.shape or ()), "dtype": other.dtype}
        if isinstance(other, spaces.Discrete | spaces.MultiBinary):
            known["n"] = other.n
        if isinstance(other, spaces.MultiDiscrete):
            known["nvec"] = other.nvec
        return all(
            str(described[name]) == str(value) or (name == "dtype" and self.is_gym)
            for name, value in known.items()
            if described.get(name) is not None
        )


def read_space(described: Any) -> SavedSpace:
    """The space that SB3 described in an agent's JSON."""
    description = described if isinstance(described, dict) else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium's, of bounds it finds odd
            read = read_inertly(base64.b64decode(description[":serialized:"]))
            space = space_of(read)
            is_gym = _library(read) == "gym"
    except Exception:  # a damaged pickle can fail in any way
        space, is_gym = None, "'gym." in str(description.get(":type:"))
    return SavedSpace(space, is_gym, description)


def space_of(read: Any) -> spaces.Space[Any] | None:
    """The space that stands in a pickle, None where it is not one of Gymnasium's or gym's."""
    if not isinstance(read, Inert) or _library(read) not in LIBRARIES:
        return None
    state = {name: value_of(value) for name, value in read.state.items()}
    kind = read.named[1]
    if kind == "Box":
        return spaces.Box(state["low"], state["high"], dtype=state["low"].dtype.type)
    dtype = state.get("dtype")
    number = dtype.type if isinstance(dtype, np.dtype) else np.int64
    if kind == "Discrete":
        start = int(state.get("start", 0))
        # The argument dtype is newer than the oldest Gymnasium that can be installed.
        given: dict[str, Any] = {} if number is np.int64 else {"dtype": number}
        discrete: spaces.Space[Any] = spaces.Discrete(int(state["n"]), start=start, **given)
        return discrete
    if kind == "MultiBinary":
        n = state["n"]
        return spaces.MultiBinary(int(n) if np.ndim(n) == 0 else [int(size) for size in n])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(state["nvec"], number, start=state.get("start"))
    if kind == "Dict":
        parts = [(key, space_of(part)) for key, part in state["spaces"].items()]
        # A list, as Gymnasium would sort the keys of a dict; mypy does not see that none is None.
        return None if any(part is None for _, part in parts) else spaces.Dict(parts)  # type: ignore[arg-type]
    return None


def _library(read: Inert) -> str:
    module, _, rest = read.named[0].partition(".")
    return module if rest.startswith("spaces") else ""


def _equal(saved: spaces.Space[Any], now: spaces.Space[Any], exactly: bool) -> bool:
    if isinstance(saved, spaces.Dict):
        return (
            isinstance(now, spaces.Dict)
            and set(saved.spaces) == set(now.spaces)
            and all(_equal(part, now.spaces[key], exactly) for key, part in saved.spaces.items())
        )
    if isinstance(saved, spaces.Box) and isinstance(now, spaces.Box):
        if saved.shape != now.shape:
            return False
        both = (saved.dtype, now.dtype)
        if not exactly and all(np.issubdtype(dtype, np.floating) for dtype in both):
            return True
        return saved.dtype == now.dtype and all(
            np.allclose(_finite(mine), _finite(theirs))
            for mine, theirs in ((saved.low, now.low), (saved.high, now.high))
        )
    if isinstance(saved, spaces.Discrete) and isinstance(now, spaces.Discrete) and not exactly:
        return bool(saved.n == now.n and saved.start == now.start)
    return bool(saved == now)


def _finite(bounds: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.clip(bounds.astype(np.float64), -UNBOUNDED, UNBOUNDED)
