"""The keys of each method: its options and their defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from math import inf
from typing import Any

from equirl.configs.fields import key
from equirl.symmetrize import METHODS as SYMMETRIZING
from equirl.symmetrize import Method


def _schema(method: type[Method]) -> type[Any]:
    """The options of a method of symmetrization, as `equirl.symmetrize.methods` says them."""
    truths = ("true", "false")
    options = [
        (
            option.name,
            option.type,
            key(
                option.default,
                option.metadata["meaning"],
                choices=(truths if option.metadata["is_flag"] else ()) + option.metadata["choices"],
                least=-inf if option.metadata["least"] is None else option.metadata["least"],
            ),
        )
        for option in fields(method)
    ]
    name = f"{method.__name__}Config"
    schema = make_dataclass(name, [("name", str, key(method.name, "the method")), *options])
    schema.__module__, schema.__doc__ = __name__, method.__doc__
    globals()[name] = schema  # where pickles of configurations look for it
    return schema


@dataclass
class NativeConfig:
    """Equivariant layers (arXiv 2006.16908, arXiv 1602.07576)."""

    name: str = key("native", "the method")
    match_parameters: bool = key(False, "as many parameters as plain has, not as many units")


@dataclass
class MirrorLossConfig:
    """A penalty beside the loss (arXiv 1801.08093)."""

    name: str = key("mirror_loss", "the method")
    mirror_weight: float = key(1.0, "of the penalty beside the loss", least=0, most=1e9)


@dataclass
class AugmentConfig:
    """Every replayed transition is moved by a random group element."""

    name: str = key("augment", "the method")


@dataclass
class PlainConfig:
    """The stock algorithm; symmetry is not used."""

    name: str = key("plain", "the method")


METHODS: dict[str, type[Any]] = {
    **{name: _schema(method) for name, method in SYMMETRIZING.items()},
    "native": NativeConfig,
    "mirror_loss": MirrorLossConfig,
    "augment": AugmentConfig,
    "plain": PlainConfig,
}
"""By the name that ``method=`` takes."""
