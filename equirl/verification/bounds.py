"""Entries that a generator takes out of the bounds that the observation space declares."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.actions import as_leaves, from_leaves
from equirl.symmetry import Symmetry

SHOWN = 4
"""Entries named in one line."""


def leaving(symmetry: Symmetry, name: str) -> str:
    """Which entries of an observation a generator takes out of their bounds; empty where none.

    Declared bounds are often wider or narrower than what ever happens, so that this is a hint.

    Args:
        symmetry: what is claimed.
        name: of the generator.
    """
    space = symmetry.observation_space
    parts: Any = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    leaves = symmetry.observations.leaves
    boxes = [parts[leaf.key] for leaf in leaves]
    corners = [
        [_corner(part, end) for part, leaf in zip(boxes, leaves, strict=True)]
        for end in ("low", "high")
    ]
    out: dict[str, None] = {}
    for corner in corners:
        moved = symmetry.transform_observation(name, from_leaves(corner, leaves))
        for leaf, part, array in zip(leaves, boxes, as_leaves(moved, leaves), strict=True):
            if not isinstance(part, spaces.Box):
                continue
            slack = 1e-5 * (1 + np.abs(array.astype(float)))
            beyond = (array < part.low - slack) | (array > part.high + slack)
            label = "s" if leaf.key is None else f"s[{leaf.key!r}]"
            out |= dict.fromkeys(f"{label}{list(map(int, i))}" for i in np.argwhere(beyond))
    more = f" and {len(out) - SHOWN} more" if len(out) > SHOWN else ""
    return ", ".join(list(out)[:SHOWN]) + more


def _corner(part: spaces.Space[Any], end: str) -> np.ndarray[Any, Any]:
    if not isinstance(part, spaces.Box):
        return np.asarray(part.sample())
    bound = getattr(part, end)
    return np.where(np.isfinite(bound), bound, 0).astype(part.dtype)
