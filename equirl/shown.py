"""How a wrong value is shown in a message: on one line, not at any length, with what is near it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 200
"""Characters shown."""


def shown(value: object) -> str:
    """``repr(value)`` on one line, cut where it is long; its type where it cannot be printed.

    Example:
        >>> shown({"a": [1, 2]})
        "{'a': [1, 2]}"
    """
    try:
        return shortened(repr(value))
    except Exception:  # a class of the caller's own, whose repr may fail in any way
        return f"a {type(value).__name__}"


def reason(error: BaseException) -> str:
    """What went wrong in code that is not ours: ``ValueError: no such thing``, on one line."""
    try:
        text = str(error)
    except Exception:  # as above
        text = ""
    name = type(error).__name__
    return shortened(f"{name}: {text}" if text.strip() else name)


def shortened(text: str) -> str:
    """Text on one line, cut where it is long."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= MOST else f"{line[: MOST - 1]}…"


def nearest(given: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``: did you mean 'x'?`` where something known is close, else nothing.

    Example:
        >>> nearest("equizro", ["equitune", "equizero"])
        ": did you mean 'equizero'?"
    """
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=cutoff)
    return f": did you mean {close[0]!r}?" if close else ""
