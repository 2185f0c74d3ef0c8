"""Parameters that are only tried with ``-m slow``: what is different about them others have too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def rarely(values: Iterable[Any], *rare: Any) -> list[Any]:
    """The values as parameters, tuples as several, those that are rare marked slow."""
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=pytest.mark.slow if value in rare else (),
        )
        for value in values
    ]
