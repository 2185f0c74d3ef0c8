"""`Reading`: what calling one map has told, and whether a compiled map agrees with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equirl.actions import Lookups, Maps
from equirl.declaring.probes import MATCHING, NOTHING, Probe, sources
from equirl.declaring.windows import Array, Window


@dataclass(frozen=True)
class Reading:
    """What calling one map has told.

    Args:
        probe: the map.
        entry: int64 ``[entries]``, the entry each entry of the result depends on, or NOTHING or
            SEVERAL.
        slope: ``[entries]``, by how much the result changes with that entry.
        centre: ``[entries]``, what the window's centre becomes.
        points: what is compared: points, how far from the centre their entries lie, and results.
    """

    probe: Probe
    entry: Array
    slope: Array
    centre: Array
    points: tuple[tuple[Array, Array, Array], ...]

    @classmethod
    def of(cls, probe: Probe) -> Reading:
        window = probe.window
        entry = sources(probe, np.arange(len(window.leaf)))
        entry = np.where(window.fixed & (entry == NOTHING), np.arange(len(entry)), entry)
        start, other = window.two_points()
        change, step = window.wrapped(probe(other) - probe(start)), (other - start)[entry]
        slope = np.divide(change, step, out=np.ones_like(change), where=step != 0)
        points = tuple((x, reach, probe(x)) for x, reach in window.random_points())
        return cls(probe, entry, slope, probe(window.centre), points)

    def mismatch(self, where: Array, maps: Maps) -> tuple[int, float, float] | None:
        """The first of these entries where map and function differ: (entry, function's, map's)."""
        window = self.probe.window
        exact = ~window.is_float[where]
        for point, reach, result in self.points:
            got = result[where]
            given = point[where].astype(np.int64) if isinstance(maps, Lookups) else point[where]
            expected = maps.orbit(given[None])[0, 0].astype(np.float64)
            rounding = MATCHING * (reach[where] + np.abs(got) + np.abs(expected))
            off = np.abs(window.wrapped(got - expected, where)) > np.where(exact, 0, rounding)
            if off.any():
                i = int(np.argmax(off))
                return int(where[i]), float(got[i]), float(expected[i])
        return None


def places(window: Window, where: Array) -> Array:
    """For each flat entry of the space, its position in the block with the entries ``where``."""
    places = np.zeros(len(window.leaf), dtype=np.int64)
    places[where] = np.arange(len(where))
    return places
