"""Turning what Hydra, Gymnasium and our own code raise for bad input into one clear line."""

from __future__ import annotations

import re
from collections.abc import Sequence

import gymnasium as gym
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from equirl.configs.fields import choices_of
from equirl.errors import EquirlError
from equirl.shown import nearest

MISTAKES = (EquirlError, HydraException, OmegaConfBaseException, gym.error.Error)
"""Raised for what the caller can mend; anything else is a bug and keeps its traceback."""

EXPECTED = (
    (r"Value ('.*') of type '\w+' could not be converted to Integer", "a whole number"),
    (r"Value ('.*') of type '\w+' could not be converted to Float", "a number"),
    (r"Value ('.*') is not a valid bool", "true or false"),
    (r"Value ('.*') of type '\w+' is incompatible with type hint", "another kind of value"),
    (r"Cannot assign container '(.*)' of type '\w+' to ", "one value"),
    (r"Incompatible value '(None)' for field of type 'int'", "a whole number"),
    (r"Incompatible value '(None)' for field of type 'float'", "a number"),
    (r"Incompatible value '(None)' for field of type 'bool'", "true or false"),
    (r"(?:Incompatible value '|field '.*' is not )(None|Optional)", "a value"),
    (r"Invalid value assigned: (\w+) is not a ListConfig", "a list, written [one,two]"),
    (r"Cannot assign (\w+) to Dict", "a mapping, written {key: value}"),
    (r"Cannot merge DictConfig with (ListConfig)", "a mapping, written {key: value}"),
)
"""What OmegaConf says, and what it means."""

KINDS = {
    "AnyNode": "one value",
    "str": "one value",
    "ListConfig": "a list",
    "None": "null",
    "Optional": "null",
}
"""What OmegaConf calls what was given, and what it is on the command line."""


def explain(error: BaseException, command: str | None = None) -> str:
    """One line that says what was wrong and what would be right.

    Args:
        error: what was raised.
        command: whose keys are suggested; None suggests those of all commands.
    """
    cause = error.__cause__ if isinstance(error, HydraException) else None
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = sorted(error.options or [])
        also = "; any Gymnasium id works as env.id=My/Env-v0" if group == "env" else ""
        return f"unknown {group} {name!r}{nearest(name, known)} (known: {', '.join(known)}{also})"
    text = str(error)
    unknown_key = re.match(r"Could not (?:override|append to config\.?) '([^']+)'", text)
    if unknown_key:
        return f"{_unknown_key(unknown_key[1], cause, command)}; see --help for the keys"
    if isinstance(cause, OmegaConfBaseException):
        return explain(cause, command)
    if isinstance(error, OmegaConfBaseException):
        key = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        return key + _wrong_type(_first_line(text), choices_of(error.object_type, error.key))
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        many = "many runs are equirl train -m …, " if command == "train" else ""
        return f"{several[1]!r} gives several values: {many}a list is written [one,two]"
    if isinstance(error, HydraException):
        return f"{_first_line(text)} (arguments are written key=value)"
    return " ".join(text.split())


def _wrong_type(line: str, choices: Sequence[str]) -> str:
    """What OmegaConf says of a value of the wrong type, in the words of the command line."""
    for pattern, expected in EXPECTED:
        if found := re.match(pattern, line):
            expected = f"one of {', '.join(choices)}" if choices else expected
            return f"expected {expected}, got {KINDS.get(found[1], found[1])}"
    return line


def _unknown_key(key: str, cause: BaseException | None, command: str | None) -> str:
    from equirl.configs.schema import known_keys

    inner = str(getattr(cause, "full_key", ""))
    if inner.startswith(f"{key}."):
        return f"no key {inner!r} can be given in {key}={{…}}: say {inner}=…"
    if cause is not None and "not in" not in str(cause):
        return f"{key}: {_first_line(str(cause))}"
    known = [other for other in known_keys(command) if other != key]
    elsewhere = [other for other in known if other.endswith(f".{key}")]
    return f"no such key {key!r}{nearest(key, elsewhere[-1:], 0) or nearest(key, known)}"


def _first_line(text: str) -> str:
    return (text.strip() or "no further word").splitlines()[0].strip()
