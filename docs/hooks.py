"""MkDocs does more than its own work: tutorials become notebooks, packages stand in one place."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parents[1]

NOTEBOOKS = ("tutorials/first_agent.md", "tutorials/own_environment.md")
"""The pages that are offered as notebooks."""

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_sources: TemporaryDirectory[str]
"""Kept until the site is built."""

SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


def whole(page: str) -> str:
    """A page with what it includes put in."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return SNIPPET.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), text)


def cells(page: str) -> list[tuple[str, str]]:
    """A page as the cells of a notebook: ``(markdown or code, text)``.

    Python is run as it is, a command of the shell after an exclamation mark. What a command prints,
    and other languages, stay text.
    """
    text, found, end = whole(page), [], 0
    for fence in FENCE.finditer(text):
        language, code = fence[1], fence[2].strip()
        if language not in ("python", "sh"):
            continue
        found.append(("markdown", text[end : fence.start()].strip()))
        if language == "sh":
            code = "\n".join(f"!{line}" for line in re.sub(r"\\\n\s*", "", code).splitlines())
        found.append(("code", code))
        end = fence.end()
    found.append(("markdown", text[end:].strip()))
    return [(kind, body) for kind, body in found if body]


def notebook(page: str) -> dict[str, Any]:
    """The page in Jupyter's format."""
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {
                "id": f"cell-{i}",
                "cell_type": kind,
                "metadata": {},
                "source": body,
                **({"outputs": [], "execution_count": None} if kind == "code" else {}),
            }
            for i, (kind, body) in enumerate(cells(page))
        ],
    }


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """Show the reference the packages where their import names say, as setuptools does."""
    global _sources
    _sources = TemporaryDirectory()
    top = Path(_sources.name, "equirl")
    ours = shutil.ignore_patterns("__pycache__", "*.yaml")
    for folder, name in (("equirl", ""), *((name, name) for name in ("agents", "configs", "envs"))):
        shutil.copytree(ROOT / folder, top / name, ignore=ours, dirs_exist_ok=True)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [_sources.name]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A link to the notebook at the end of the page."""
    if page.file.src_uri not in NOTEBOOKS:
        return markdown
    name = Path(page.file.src_uri).stem
    return f'{markdown}\n\n<a href="../{name}.ipynb" download>This page as a notebook</a>\n'


def on_post_build(config: Any) -> None:
    """Write the notebooks beside the pages."""
    for page in NOTEBOOKS:
        path = Path(config["site_dir"]) / Path(page).with_suffix(".ipynb")
        path.write_text(json.dumps(notebook(page), indent=1), encoding="utf-8")
