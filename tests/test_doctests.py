"""The examples in our docstrings are true, imported by the name a user would use."""

import doctest
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import equirl
import equirl.agents
import equirl.configs
import equirl.envs

# An editable install maps each to a folder of its own.
PACKAGES = [equirl, equirl.envs, equirl.agents, equirl.configs]


def module_names() -> list[str]:
    names = {package.__name__ for package in PACKAGES}
    for package in PACKAGES:
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names |= {module.name for module in found}
    return sorted(name for name in names if not name.endswith("__main__") and has_examples(name))


def has_examples(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return ">>> " in Path(spec.origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", module_names())
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
