"""What a declared symmetry must look like before any of its maps is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.declaring.observation_maps import ObservationMap
from equirl.errors import SymmetryError
from equirl.shown import shown

Permutations = dict[str, npt.NDArray[np.int64]]


def checked_action_space(space: Any) -> spaces.Discrete:
    """The action space, which DQN can take.

    Raises:
        SymmetryError: it is not ``Discrete`` from 0.
    """
    if not isinstance(space, spaces.Discrete) or space.start != 0:
        raise SymmetryError(
            f"the action space must be Discrete from 0 (DQN), got "
            f"{space if isinstance(space, spaces.Space) else shown(space)}"
        )
    return space


def checked_generators(
    generators: Any, actions: int
) -> tuple[dict[str, ObservationMap], Permutations]:
    """The observation map and the action permutation of every generator, by name.

    Raises:
        SymmetryError: they are not a dict of pairs, or a permutation is not one of the actions.
    """
    if not isinstance(generators, Mapping):
        raise SymmetryError(
            "generators must be a dict of name: (observation map, action permutation), got "
            f"{shown(generators)}"
        )
    maps: dict[str, ObservationMap] = {}
    permutations: Permutations = {}
    for name in generators:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise SymmetryError(f"a generator's name must be a short text, got {shown(name)}")
        pair = generators[name]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise SymmetryError(
                f"generator {name!r} must be a pair (observation map, action permutation)"
            )
        maps[name] = pair[0]
        permutations[name] = _checked_permutation(name, pair[1], actions)
    return maps, permutations


def _checked_permutation(name: str, given: Any, n: int) -> npt.NDArray[np.int64]:
    try:
        permutation = np.asarray(given)
    except Exception as error:  # ragged, or a class of the caller's own
        raise SymmetryError(
            f"generator {name!r}: {shown(given)} is not a permutation of 0 … {n - 1}"
        ) from error
    if permutation.shape != (n,):
        raise SymmetryError(
            f"generator {name!r}: the action permutation must list all {n} actions once, got "
            f"{shown(permutation.tolist())}"
        )
    if not np.issubdtype(permutation.dtype, np.integer) or sorted(permutation.tolist()) != list(
        range(n)
    ):
        raise SymmetryError(
            f"generator {name!r}: {shown(permutation.tolist())} is not a permutation of 0 … {n - 1}"
        )
    return permutation.astype(np.int64)
