"""Everything that the package imports is declared in pyproject.toml."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.resources
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # of Python 3.11

OTHER_NAMES = {
    "sklearn": "scikit-learn",
    "pygame": "pygame-ce",
    "PIL": "pillow",
    "hydra": "hydra-core",
}
"""Distributions that are not called as what they bring, where they may not be installed."""


def modules(folder: Traversable) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from modules(entry)
        elif entry.name.endswith(".py"):
            yield entry.read_text(encoding="utf-8")


def imported(source: str) -> Iterator[str]:
    """The top-level packages that are imported anywhere in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.partition(".")[0]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """What pyproject.toml names, and what the extras of others bring that it names."""
    names = set()
    for requirement in importlib.metadata.requires("equirl") or []:
        found = re.match(r"([\w.-]+)(?:\[([\w-]+)\])?", requirement)
        assert found is not None
        names.add(normalised(found[1]))
        if found[2] is not None and found[1] != "equirl":
            try:
                brought = importlib.metadata.requires(found[1]) or []
            except importlib.metadata.PackageNotFoundError:  # of an extra that is not installed
                continue
            of_extra = [line for line in brought if f'extra == "{found[2]}"' in line]
            names |= {normalised(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in of_extra}
    return names


def test_every_import_is_a_dependency_or_brought_by_an_extra() -> None:
    known, brings = declared(), importlib.metadata.packages_distributions()
    folders = ["equirl", "equirl.agents", "equirl.configs", "equirl.envs"]
    sources = [text for name in folders for text in modules(importlib.resources.files(name))]
    found = {name for source in sources for name in imported(source)}
    for name in found - set(sys.stdlib_module_names) - {"equirl"}:
        candidates = {normalised(d) for d in brings.get(name, [OTHER_NAMES.get(name, name)])}
        assert candidates & known, f"{name} ({', '.join(candidates)}) is not declared"
