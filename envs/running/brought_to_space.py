"""What an environment hands out: brought to its spaces where nothing is lost, else refused.

An environment that keeps to its space pays for one comparison of shape and dtype per array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.shown import shown


class NotOfSpaceError(ValueError):
    """Says what came and what was expected, as the object of "the environment gave …"."""


def observation_in(space: spaces.Space[Any], given: Any) -> Any:
    """The observation as an element of its space; floats are rounded to the dtype of theirs.

    Args:
        space: the observation space.
        given: what came; lists, Python numbers and arrays of objects count as the arrays they are.

    Raises:
        NotOfSpaceError: it is of another kind, shape or set of keys, is not finite, or holds
            numbers that the space cannot. Bounds of a ``Box`` are not looked at.
    """
    if not isinstance(space, spaces.Dict):
        return _part_in(space, given, "an observation")
    if not isinstance(given, dict):
        raise _not_of(space, "an observation", given)
    if given.keys() != space.spaces.keys():
        raise NotOfSpaceError(
            f"an observation with the keys {sorted(map(str, given))}, where its space has "
            f"{sorted(space.spaces)}"
        )
    return {
        key: _part_in(part, given[key], f"an observation[{key!r}]")
        for key, part in space.spaces.items()
    }


def reward_from(given: Any) -> float:
    """The reward as a number; an array or list of one number counts as that number.

    Raises:
        NotOfSpaceError: it is anything else, or not finite.
    """
    number = given if type(given) is float else _single(given)
    if number is None:
        raise NotOfSpaceError(f"the reward {_described(given)}, where a number is expected")
    if not np.isfinite(number):
        raise NotOfSpaceError(f"the reward {number}")
    return float(number)


def flag_from(name: str, given: Any) -> bool:
    """``terminated`` or ``truncated`` as a bool.

    Raises:
        NotOfSpaceError: it is neither a bool nor 0 or 1.
    """
    if given is True or given is False:
        return given
    number = _single(given)
    if number is None or number not in (0, 1):
        raise NotOfSpaceError(f"{name} = {_described(given)}, where True or False is expected")
    return bool(number)


def info_from(given: Any) -> dict[str, Any]:
    """The info as a dict; None counts as an empty one.

    Raises:
        NotOfSpaceError: it is anything else.
    """
    if isinstance(given, dict):
        return given
    if given is None:
        return {}
    raise NotOfSpaceError(f"the info {_described(given)}, where a dict is expected")


def _part_in(space: spaces.Space[Any], given: Any, what: str) -> Any:
    if space.shape is None or space.dtype is None or space.dtype.kind not in "biuf":
        return given  # a Text, say: SB3 refuses it, or a wrapper has kept it out of the way
    keeps_to_it = (
        isinstance(given, np.ndarray) and given.dtype == space.dtype and given.shape == space.shape
    )
    array = given if keeps_to_it else _converted(space, given, what)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise NotOfSpaceError(f"{what} whose entry {list(index)} is {array[index]}")
    # The encodings of these have a place for their own values only.
    if not isinstance(space, spaces.Box) and not space.contains(array[()]):
        raise _not_of(space, what, given)
    return array if space.shape else array[()]


def _converted(space: spaces.Space[Any], given: Any, what: str) -> npt.NDArray[Any]:
    """The same numbers in the dtype of the space; NaN and infinity stay what they are."""
    array = _numbers(given)
    if array is None or array.shape != space.shape:
        raise _not_of(space, what, given)
    if not np.isfinite(array).all():
        return array
    with np.errstate(all="ignore"):
        converted = array.astype(space.dtype)
    rounds = array.dtype.kind == "f" and converted.dtype.kind == "f"
    fits = np.isfinite(converted).all() if rounds else np.array_equal(converted, array)
    if not fits:
        raise _not_of(space, what, given)
    return converted


def _single(given: Any) -> Any:
    array = _numbers(given)
    return None if array is None or array.size != 1 else array.reshape(())[()]


def _numbers(given: Any) -> npt.NDArray[Any] | None:
    """An array of numbers, or None where something else came."""
    try:
        array = np.asarray(given)
        if array.dtype == object:
            array = np.array(array.tolist())
    except Exception:  # ragged lists, tensors of a device, classes of the user's own
        return None
    return array if array.dtype.kind in "biuf" else None


def _not_of(space: spaces.Space[Any], what: str, given: Any) -> NotOfSpaceError:
    return NotOfSpaceError(
        f"{what} that is not of its space: {_described(given)}, not {shown(space)}"
    )


def _described(given: Any) -> str:
    """What came, in a few words."""
    if not isinstance(given, np.ndarray):
        return shown(given)
    if given.size > 8 or given.ndim > 1:
        return f"{given.dtype} of shape {given.shape}"
    return f"{shown(given)} of shape {given.shape}"
