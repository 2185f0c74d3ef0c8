"""Parameters that are only tried with ``-m slow``: what is different about them others have too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def rarely(values: Iterable[Any], *rare: Any) -> list[Any]:
    """The values as parameters, those that are rare marked slow."""
    return [
        pytest.param(value, marks=pytest.mark.slow if value in rare else ()) for value in values
    ]
