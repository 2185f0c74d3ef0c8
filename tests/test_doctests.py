"""The examples in our docstrings are true, imported by the name a user would use."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = [
    "equirl",
    "equirl.commands",
    "equirl.reporting",
    "equirl.envs",
    "equirl.envs.known_symmetries",
    "equirl.agents",
    "equirl.configs",
]


def module_names() -> list[str]:
    # One package at a time: an editable install maps each to its own folder.
    names = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [m.name for m in pkgutil.iter_modules(path, f"{package}.") if not m.ispkg]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", module_names())
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
