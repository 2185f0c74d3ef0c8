"""The keys of each method: its options and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from equirl.configs.fields import key

# OmegaConf reads these annotations at run time and wants Optional spelled out.
# ruff: noqa: UP045

GRADIENTS = ("selected", "straight_through")


@dataclass
class EquituneConfig:
    """Average over the orbit (arXiv 2210.06475)."""

    name: str = key("equitune", "the method")
    orbit_samples: Optional[int] = key(
        None, "random elements of the group in the loss; null is all", least=1
    )


@dataclass
class LambdaConfig:
    """Learned weights over the orbit (arXiv 2305.09900)."""

    name: str = key("lambda", "the method")
    init: str = key(
        "equitune",
        "where the weights start: equitune or equizero",
        choices=("equitune", "equizero"),
    )


@dataclass
class EquizeroConfig:
    """The branch with the largest score (arXiv 2305.09900)."""

    name: str = key("equizero", "the method")
    gradient: str = key(
        "selected", "of the choice: selected or straight_through", choices=GRADIENTS
    )


@dataclass
class CanonicalConfig:
    """The canonical point of the orbit, chosen without the network (arXiv 2211.06489)."""

    name: str = key("canonical", "the method")
    gradient: str = key(
        "selected", "of the choice: selected or straight_through", choices=GRADIENTS
    )
    canonical_score: str = key(
        "lexicographic",
        "what chooses: lexicographic or learned",
        choices=("lexicographic", "learned"),
    )


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
    "equitune": EquituneConfig,
    "lambda": LambdaConfig,
    "equizero": EquizeroConfig,
    "canonical": CanonicalConfig,
    "native": NativeConfig,
    "mirror_loss": MirrorLossConfig,
    "augment": AugmentConfig,
    "plain": PlainConfig,
}
"""By the name that ``method=`` takes."""
