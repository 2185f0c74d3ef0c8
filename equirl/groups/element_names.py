"""What elements are called: words in the generators, and cycles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def word_name(word: Sequence[str]) -> str:
    """A word in the generators as a name: ``e``, ``mirror``, ``r²s``, ``turn²·mirror``."""
    if not word:
        return "e"
    parts = []
    for letter, run in itertools.groupby(word):
        power = len(list(run))
        parts.append(letter if power == 1 else letter + str(power).translate(_SUPERSCRIPTS))
    return ("" if all(len(letter) == 1 for letter in word) else "·").join(parts)


def cycle_notation(permutation: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
    """A permutation as its cycles, ``(0 1 2)(3 4)``; ``e`` for the identity."""
    cycles, seen = [], set()
    for start in range(len(permutation)):
        cycle, x = [], start
        while x not in seen:
            seen.add(x)
            cycle.append(str(x))
            x = int(permutation[x])
        if len(cycle) > 1:
            cycles.append(f"({' '.join(cycle)})")
    return "".join(cycles) or "e"
