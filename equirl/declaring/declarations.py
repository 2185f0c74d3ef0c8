"""What a declared symmetry must look like before any of its maps is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equirl.declaring.observation_maps import ObservationMap
from equirl.errors import SymmetryError
from equirl.shown import shown


def checked_generators(
    generators: Any,
) -> tuple[dict[str, ObservationMap], dict[str, ObservationMap]]:
    """The observation map and the action map of every generator, by name.

    Raises:
        SymmetryError: they are not a dict of pairs.
    """
    if not isinstance(generators, Mapping):
        raise SymmetryError(
            "generators must be a dict of name: (observation map, action permutation), got "
            f"{shown(generators)}"
        )
    maps: dict[str, ObservationMap] = {}
    actions: dict[str, ObservationMap] = {}
    for name in generators:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise SymmetryError(f"a generator's name must be a short text, got {shown(name)}")
        pair = generators[name]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise SymmetryError(
                f"generator {name!r} must be a pair (observation map, action permutation)"
            )
        maps[name] = pair[0]
        actions[name] = pair[1]
    return maps, actions
