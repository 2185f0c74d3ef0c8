"""Which known wrapper a layer is: by its class, never by the name of its class."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from typing import Any

BEHAVIOUR = (
    "action",
    "action_space",
    "carry_symmetry",
    "observation",
    "observation_space",
    "reset",
    "step",
    "step_async",
    "step_wait",
)
"""What a subclass of a known wrapper must leave alone to be taken for it."""

HARMLESS = ("close", "render", "seed", "get_images")
"""What changes neither observations nor actions."""


def loaded_classes(references: Iterable[str]) -> dict[type[Any], str]:
    """The classes that ``module:Class`` references name, without importing a module for it.

    Nothing can be an instance of a class that has not been imported.
    """
    found = {}
    for reference in references:
        module, _, name = reference.partition(":")
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            found[kind] = reference
    return found


def known_class(layer: Any, known: Container[type[Any]]) -> type[Any] | None:
    """The first class among ``known`` that a wrapper is an instance of, if it behaves as that one.

    None where its own class, or one that is mixed in, defines anew how it acts.
    """
    kinds = type(layer).__mro__
    kind = next((kind for kind in kinds if kind in known), None)
    return None if kind is None or redefined(layer, kind) else kind


def redefined(layer: Any, kind: type[Any], helpers: bool = False) -> list[str]:
    """What a wrapper does in another way than ``kind``, one of its classes.

    Args:
        layer: the wrapper.
        kind: its class, or one that it is derived from.
        helpers: whether the other methods of that class count as well, which its own call.
    """
    behaviour = [*BEHAVIOUR, *(_methods(kind) if helpers else ())]
    others = set(type(layer).__mro__) - set(kind.__mro__)
    names = [name for name in behaviour if any(name in vars(other) for other in others)]
    on_itself = [
        name for name in behaviour if name in vars(layer) and callable(getattr(kind, name, None))
    ]
    return names + on_itself


def _methods(kind: type[Any]) -> list[str]:
    return [
        name
        for name in vars(kind)
        if callable(getattr(kind, name)) and not name.startswith("__") and name not in HARMLESS
    ]
