"""Classes that a saved agent names in plain text, imported only where they are what they claim."""

from __future__ import annotations

import importlib
import re
from typing import Any

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn, optim

LIBRARIES = ("equirl", "stable_baselines3", "sb3_contrib", "torch")
"""Whose classes may be imported by the name that a file gives."""

EXPECTED: dict[str, type[Any]] = {
    "activation_fn": nn.Module,
    "features_extractor_class": BaseFeaturesExtractor,
    "optimizer_class": optim.Optimizer,
}
"""What each may be. A policy calls them with arguments from the file, and some other callables of
these libraries would compile and run what they are given."""


def library_class(name: str, described: str) -> type[Any] | None:
    """The class that ``<class 'module.Name'>`` describes, if a library has it and it fits ``name``.

    Args:
        name: of the policy's argument, such as ``"activation_fn"``.
        described: how Python prints the class.

    Raises:
        ImportError: the library is there, the module or class is not.
    """
    named = re.fullmatch(r"<class '([\w.]+)\.(\w+)'>", described)
    if named is None or name not in EXPECTED or "__" in described:
        return None
    if named[1].partition(".")[0] not in LIBRARIES:
        return None
    try:
        found = getattr(importlib.import_module(named[1]), named[2])
    except AttributeError as error:
        raise ImportError(str(error)) from error
    return found if isinstance(found, type) and issubclass(found, EXPECTED[name]) else None
