"""What ``equirl COMMAND --help`` says of a command's keys, taken from `equirl.configs.schema`."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from importlib import resources
from typing import Any, get_type_hints


def options(group: str) -> str:
    """The names that ``group=`` takes: its YAML files."""
    folder = resources.files("equirl.configs") / group
    if not folder.is_dir():
        return "none"
    names = [entry.name.removesuffix(".yaml") for entry in folder.iterdir()]
    return ", ".join(sorted(name for name in names if not name.startswith("_")))


def keys(schema: Any, prefix: str = "") -> str:
    """One line a key, ``name: type = default  # meaning``, as the schema's source has it."""
    hints = get_type_hints(schema)
    lines = []
    for line in inspect.getsource(schema).splitlines():
        found = re.match(r"    (\w+): (.+?) = (.+?)(?:  # (.*))?$", line)
        if not found:
            continue
        name, kind, default, meaning = found.groups()
        if is_dataclass(hints[name]):
            lines.append(keys(hints[name], f"{prefix}{name}."))
            continue
        kind = re.sub(r"Optional\[(.+)\]", r"\1 or null", kind)
        value = _shown(default)
        lines.append(f"  {prefix + name:38} {kind + value:30} {meaning or ''}".rstrip())
    return "\n".join(lines)


def _shown(default: str) -> str:
    if default == "MISSING" or default.startswith("field("):
        return ""
    return f", {default.strip(chr(34))}" if default != "None" else ""
