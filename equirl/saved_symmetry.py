"""Symmetries as plain data and as JSON.

Plain data outlives the classes it was saved with; JSON is read without unpickling anything.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import Affines, GroupAction, Leaf, Lookups, Maps, SignedPermutations, leaves_of
from equirl.errors import SymmetryError
from equirl.groups import FiniteGroup
from equirl.symmetry import Symmetry

FORMAT = 2
"""Raise it when the data below changes; `from_plain` goes on reading every older one."""

KINDS: dict[str, type[Maps]] = {
    "signed permutation": SignedPermutations,
    "affine": Affines,
    "lookup": Lookups,
}


def to_plain(symmetry: Symmetry) -> dict[str, Any]:
    """A symmetry as strings, numbers, arrays and Gymnasium spaces.

    Discrete actions are saved as their permutations, as in format 1; others as maps.
    """
    discrete = isinstance(symmetry.action_space, spaces.Discrete)
    return {
        "format": FORMAT,
        "table": symmetry.group.table,
        "names": symmetry.group.names,
        "observation_space": symmetry.observation_space,
        "action_space": symmetry.action_space,
        "permutations": symmetry.permutations if discrete else None,
        "actions": None if discrete else _plain_maps(symmetry.actions),
        "blocks": symmetry.observations.blocks,
        "maps": _plain_maps(symmetry.observations),
    }


def _plain_maps(action: GroupAction) -> list[tuple[str, dict[str, Any]]]:
    names = {kind: name for name, kind in KINDS.items()}
    return [(names[type(maps)], maps.arrays) for maps in action.maps]


def from_plain(plain: dict[str, Any]) -> Symmetry:
    """The symmetry that `to_plain` took apart, in this or an earlier format.

    Raises:
        SymmetryError: it was saved by a later version, or is damaged.
    """
    if plain["format"] > FORMAT:
        raise SymmetryError(
            f"this symmetry was saved in format {plain['format']}, this version of equirl reads up "
            f"to {FORMAT}: install a newer one"
        )
    group = FiniteGroup(plain["table"], plain["names"])
    observation_space, action_space = plain["observation_space"], plain["action_space"]
    leaves = leaves_of(observation_space)
    observations = _action(group, leaves, plain["blocks"], plain["maps"])
    permutations = plain["permutations"]
    if permutations is None:
        actions = _action(group, leaves_of(action_space, "action"), ((0,),), plain["actions"])
    elif permutations.shape == (group.order, action_space.n):
        index = np.zeros((group.order, 1), dtype=np.int64)
        start = int(action_space.start)
        table = Lookups(index, permutations[:, None] + start, np.full_like(index, start))
        actions = GroupAction(group, leaves_of(action_space, "action"), ((0,),), (table,))
    else:
        raise _damaged()
    return Symmetry(group, observation_space, action_space, observations, actions)


def _action(group: FiniteGroup, leaves: tuple[Leaf, ...], blocks: Any, plain: Any) -> GroupAction:
    maps = tuple(KINDS[name](**arrays) for name, arrays in plain)
    sizes = [sum(leaves[j].size for j in block if j < len(leaves)) for block in blocks]
    listed = sorted(j for block in blocks for j in block)
    if listed != list(range(len(leaves))) or [m.entries for m in maps] != sizes:
        raise _damaged()
    return GroupAction(group, leaves, blocks, maps)


def _damaged() -> SymmetryError:
    return SymmetryError("the symmetry that was saved is damaged: it does not fit its spaces")


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
        **{
            name: plain[name] if plain[name] is None else to_json_of(plain[name])
            for name, to_json_of in (("permutations", _array_to_json), ("actions", _maps_to_json))
        },
        "blocks": [list(block) for block in plain["blocks"]],
        "maps": _maps_to_json(plain["maps"]),
    }


def from_json(described: Any) -> Symmetry:
    """The symmetry that `to_json` described. Runs nothing that the description says.

    Raises:
        SymmetryError: it was saved by a later version, or is not such a description.
    """
    try:
        permutations, actions = described["permutations"], described.get("actions")
        return from_plain(
            {
                "format": int(described["format"]),
                "names": tuple(map(str, described["names"])),
                "table": _array(described["table"]),
                "observation_space": _space(described["observation_space"]),
                "action_space": _space(described["action_space"]),
                "permutations": permutations and _array(permutations),
                "actions": actions and [_maps(maps) for maps in actions],
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


def _maps_to_json(plain: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {"kind": kind, **{n: None if a is None else _array_to_json(a) for n, a in arrays.items()}}
        for kind, arrays in plain
    ]


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
        dtype = np.dtype(space.dtype).name
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": dtype}
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
        dtype = np.dtype(described.get("dtype", "int64"))
        # Gymnasium 1.0 has no other dtype.
        other = {} if dtype == np.int64 else {"dtype": dtype.type}
        return spaces.Discrete(described["n"], start=described["start"], **other)
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
