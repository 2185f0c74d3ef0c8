"""Symmetries as JSON, for files that are read without unpickling anything."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.errors import SymmetryError
from equirl.saved_symmetry import from_plain, to_plain
from equirl.symmetry import Symmetry


def to_json(symmetry: Symmetry) -> dict[str, Any]:
    """A symmetry as what `json.dumps` takes.

    Raises:
        SymmetryError: it acts on a space that has no such form.

    Example:
        >>> space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
        >>> mirror = Symmetry.from_generators(*space, {"mirror": (np.negative, [1, 0])})
        >>> to_json(mirror)["names"]
        ['e', 'mirror']
        >>> from_json(to_json(mirror)) == mirror
        True
    """
    plain = to_plain(symmetry)
    return {
        "format": plain["format"],
        "names": list(plain["names"]),
        "table": _array_to_json(plain["table"]),
        "observation_space": _space_to_json(plain["observation_space"]),
        "action_space": _space_to_json(plain["action_space"]),
        "permutations": _array_to_json(plain["permutations"]),
        "blocks": [list(block) for block in plain["blocks"]],
        "maps": [
            {
                "kind": kind,
                **{n: None if a is None else _array_to_json(a) for n, a in arrays.items()},
            }
            for kind, arrays in plain["maps"]
        ],
    }


def from_json(described: Any) -> Symmetry:
    """The symmetry that `to_json` described. Runs nothing that the description says.

    Raises:
        SymmetryError: it was saved by a later version, or is no such description.
    """
    try:
        return from_plain(
            {
                "format": int(described["format"]),
                "names": tuple(map(str, described["names"])),
                "table": _array(described["table"]),
                "observation_space": _space(described["observation_space"]),
                "action_space": _space(described["action_space"]),
                "permutations": _array(described["permutations"]),
                "blocks": tuple(tuple(map(int, block)) for block in described["blocks"]),
                "maps": [_maps(maps) for maps in described["maps"]],
            }
        )
    except SymmetryError:
        raise
    except Exception as error:  # what is not as expected can fail in any way
        raise SymmetryError(
            f"the description of a symmetry is damaged ({type(error).__name__}: {error})"
        ) from error


def _maps(described: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    arrays = {
        name: a if a is None else _array(a) for name, a in described.items() if name != "kind"
    }
    return described["kind"], arrays


def _array_to_json(array: npt.NDArray[Any]) -> dict[str, Any]:
    little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "zlib": base64.b64encode(zlib.compress(little_endian.tobytes())).decode(),
    }


def _array(described: dict[str, Any]) -> npt.NDArray[Any]:
    dtype, shape = np.dtype(described["dtype"]), tuple(map(int, described["shape"]))
    if dtype.kind not in "biuf":
        raise SymmetryError(f"the description of a symmetry is damaged: an array of {dtype}")
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    # No more than there should be, however far it would inflate.
    content = zlib.decompressobj().decompress(base64.b64decode(described["zlib"]), size or 1)
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Box):
        ends = {"low": _array_to_json(space.low), "high": _array_to_json(space.high)}
        return {"kind": "Box", "dtype": np.dtype(space.dtype).name, **ends}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiBinary):
        return {
            "kind": "MultiBinary",
            "n": space.n if isinstance(space.n, int) else list(space.shape),
        }
    if isinstance(space, spaces.MultiDiscrete):
        numbers = {"nvec": _array_to_json(space.nvec), "start": _array_to_json(space.start)}
        return {"kind": "MultiDiscrete", "dtype": np.dtype(space.dtype).name, **numbers}
    if isinstance(space, spaces.Dict):
        parts = {key: _space_to_json(part) for key, part in space.spaces.items()}
        return {"kind": "Dict", "spaces": parts}
    raise SymmetryError(f"a {type(space).__name__} cannot be described in JSON")


def _space(described: dict[str, Any]) -> spaces.Space[Any]:
    kind = described["kind"]
    if kind == "Box":
        low, high = _array(described["low"]), _array(described["high"])
        return spaces.Box(low, high, dtype=np.dtype(described["dtype"]).type)
    if kind == "Discrete":
        return spaces.Discrete(described["n"], start=described["start"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(described["n"])
    if kind == "MultiDiscrete":
        nvec, start = _array(described["nvec"]), _array(described["start"])
        return spaces.MultiDiscrete(nvec, np.dtype(described["dtype"]).type, start=start)
    if kind == "Dict":
        # Given as a dict of this order, which Gymnasium would sort.
        parts = [(key, _space(part)) for key, part in described["spaces"].items()]
        return spaces.Dict(parts)
    raise SymmetryError(f"this version of equirl knows no {kind!r} space: install a newer one")
