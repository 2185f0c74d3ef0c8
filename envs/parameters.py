"""How the parameters of our own environments are checked."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any


def fraction(name: str, value: Any) -> float:
    """The value of a parameter in [0, 1].

    Raises:
        ValueError: it is none.
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a fraction in [0, 1]")
    return float(value)


def finite(name: str, value: Any, least: float = -math.inf) -> float:
    """The value of a parameter, finite and at least this.

    Raises:
        ValueError: it is not.
    """
    if not is_number(value) or not math.isfinite(value) or value < least:
        bound = f" of at least {least:g}" if math.isfinite(least) else ""
        raise ValueError(f"{name} is {value!r}, expected a finite number{bound}")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether a value is a real number, which text and truth values are not."""
    return isinstance(value, Real) and not isinstance(value, bool)
