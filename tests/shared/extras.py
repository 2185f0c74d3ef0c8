"""Packages of extras that may not be installed."""

from __future__ import annotations

import importlib.util

import pytest


def skip_without(package: str) -> None:
    """Skip the test; as `pytest.importorskip`, but nothing is imported, which `need` does."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}, of equirl[examples]")
