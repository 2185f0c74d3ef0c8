"""A key of the configuration: its default, what it means, and what it may be."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any, get_type_hints

from omegaconf import MISSING

from equirl.errors import ConfigError
from equirl.shown import nearest


def key(
    default: Any,
    meaning: str,
    *,
    least: float = -inf,
    most: float = inf,
    choices: Sequence[str] = (),
) -> Any:
    """A field of a configuration's dataclass.

    Args:
        default: a list or a dict is copied for each configuration.
        meaning: what ``--help`` says of it.
        least: the least that a number, or each number of a list, may be.
        most: the most that it may be.
        choices: the words that it, or each entry of a list, must be one of.
    """
    metadata = {"meaning": meaning, "least": least, "most": most, "choices": tuple(choices)}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def changed(schema: type[Any], name: str, default: Any) -> Any:
    """The key of this name in a schema, with another default; its meaning and limits stay."""
    (field,) = (field for field in dataclasses.fields(schema) if field.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


def part(schema: type[Any], meaning: str) -> Any:
    """A field that holds further keys, those of ``schema``."""
    return dataclasses.field(default_factory=schema, metadata={"meaning": meaning})


def group(meaning: str) -> Any:
    """A field that a file of the configuration group of its name fills."""
    return dataclasses.field(default=MISSING, metadata={"meaning": meaning})


def walked(schema: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every key of a configuration's dataclass, dotted, with its field and its type.

    Args:
        schema: the dataclass, or one of its instances, whose own parts are then walked.
        prefix: of the keys.
    """
    hints = get_type_hints(schema if isinstance(schema, type) else type(schema))
    for field in dataclasses.fields(schema):
        inner = hints[field.name] if isinstance(schema, type) else getattr(schema, field.name)
        yield f"{prefix}{field.name}", field, hints[field.name]
        if dataclasses.is_dataclass(inner):
            yield from walked(inner, f"{prefix}{field.name}.")


def choices_of(schema: Any, name: Any) -> tuple[str, ...]:
    """The words that the key of this name must be one of; none where it may be any value."""
    known = dataclasses.fields(schema) if dataclasses.is_dataclass(schema) else ()
    choices: list[tuple[str, ...]] = [
        field.metadata.get("choices", ()) for field in known if field.name == name
    ]
    return choices[0] if choices else ()


def check_values(settings: Any, prefix: str = "") -> None:
    """Refuse values that are out of their bounds or not one of the choices.

    Raises:
        ConfigError: naming the key, what it says and what it may say.
    """
    for name, field, _ in walked(settings, prefix):
        value: Any = settings
        for attribute in name.removeprefix(prefix).split("."):
            value = getattr(value, attribute)
        for entry in value if isinstance(value, list) else [] if value is None else [value]:
            _check_value(name, entry, field.metadata)


def _check_value(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    choices = metadata.get("choices")
    word = str(value).lower() if isinstance(value, bool) else value
    if choices and word not in choices:
        raise ConfigError(
            f"{name} must be one of {', '.join(choices)}, got {word!r}{nearest(word, choices)}"
        )
    least, most = metadata.get("least", -inf), metadata.get("most", inf)
    if (least, most) != (-inf, inf) and not least <= value <= most:
        bounds = f"at least {least}" if most == inf else f"between {least} and {most}"
        raise ConfigError(f"{name} must be {bounds}, got {value}")


def described(schema: type[Any], prefix: str = "", suffix: str = "") -> str:
    """One line for each key: ``key  type, default  meaning``.

    Args:
        schema: the dataclass.
        prefix: of the keys.
        suffix: at the end of each meaning.
    """
    lines = []
    for name, field, kind in walked(schema, prefix):
        if dataclasses.is_dataclass(kind) or (kind is Any and field.default == MISSING):
            continue
        shown = re.sub(r"Optional\[(.+)\]", r"\1 or null", str(field.type))
        shown = shown.replace(" | None", " or null").replace("Any", "value")
        default = _shown(field)
        left = f"  {name:38} {shown + default:30}"
        lines.append(f"{left} {field.metadata['meaning']}{suffix}")
    return "\n".join(lines)


def _shown(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        default = field.default
    if default in (MISSING, None, [], {}):
        return ""
    if isinstance(default, list):
        return f", [{','.join(map(str, default))}]"
    return f", {str(default).lower() if isinstance(default, bool) else default}"
