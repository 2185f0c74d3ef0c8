"""The layers of a natively equivariant Q-network, and how wide they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    FlattenExtractor,
    NatureCNN,
)
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor, nn

from equirl.agents.features import Normalise, NormalisedFlatten, SmallCnn
from equirl.agents.native.equivariant_layers import (
    ActionValues,
    LiftingConv2d,
    RegularConv2d,
    RegularLinear,
)
from equirl.agents.native.grid_moves import grid_moves
from equirl.errors import AgentError
from equirl.symmetry import Symmetry


@dataclass(frozen=True)
class Convolution:
    """One convolution of a features extractor."""

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class Architecture:
    """A plain Q-network, whose layers the equivariant one has too.

    Args:
        extractor: its features extractor.
        extractor_kwargs: the extractor's arguments.
        net_arch: units of the hidden layers.
        activation: after each of them.

    Raises:
        AgentError: a features extractor whose layers are not known, or other arguments of one.
    """

    extractor: type[BaseFeaturesExtractor]
    extractor_kwargs: Mapping[str, Any]
    net_arch: Sequence[int]
    activation: type[nn.Module]

    def __post_init__(self) -> None:
        known: dict[type[BaseFeaturesExtractor], set[str]] = {
            FlattenExtractor: set(),
            NormalisedFlatten: {"mean", "var", "epsilon", "clip"},
            NatureCNN: {"features_dim"},
            SmallCnn: {"features_dim", "channels"},
        }
        if self.extractor not in known:
            raise AgentError(
                f"native layers take the place of {', '.join(e.__name__ for e in known)}, not of "
                f"{self.extractor.__name__}: use method=equitune"
            )
        others = set(self.extractor_kwargs) - known[self.extractor]
        if others:
            raise AgentError(
                f"native layers do not heed {sorted(others)} of {self.extractor.__name__}: leave "
                "it out, or use method=equitune"
            )

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """Those of the features extractor."""
        if self.extractor is NatureCNN:
            return Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3)
        if self.extractor is SmallCnn:
            channels = self.extractor_kwargs.get("channels", 32)
            return (Convolution(channels, 3, padding=1),) * 2
        return ()

    @property
    def features_dim(self) -> int:
        """Units of the layer after the convolutions."""
        default = 512 if self.extractor is NatureCNN else 128
        return int(self.extractor_kwargs.get("features_dim", default))


class FramewiseFlatten(BaseFeaturesExtractor):
    """Orbits of anything but images: ``[batch · |G|, *shape] -> [batch, |G|, inputs]``.

    Args:
        observation_space: of one observation.
        order: |G|.
        statistics: with which observations are normalised, as `NormalisedFlatten` takes them; empty
            where they are not. M(gs) = net(normalise(gs)).
    """

    def __init__(
        self, observation_space: spaces.Space[Any], order: int, statistics: Mapping[str, Any]
    ) -> None:
        super().__init__(observation_space, FlattenExtractor(observation_space).features_dim)
        self.order = order
        self.normalise = Normalise(**statistics) if statistics else nn.Identity()

    def forward(self, orbit: Tensor) -> Tensor:
        """See the class."""
        normalised: Tensor = self.normalise(orbit)
        return normalised.reshape(-1, self.order, self.features_dim)


class GroupCnn(BaseFeaturesExtractor):
    """A group-convolutional network (Cohen & Welling 2016, arXiv 1602.07576), exact at any size.

    ``[batch · |G|, channels, height, width] -> [batch, |G|, copies]``.

    Args:
        symmetry: of images with channels first.
        architecture: the plain network.
        scale: see `build`.

    Raises:
        SymmetryError: it is none of rotations and reflections.
        AgentError: the observations are not images, or too small for the convolutions.
    """

    def __init__(self, symmetry: Symmetry, architecture: Architecture, scale: float) -> None:
        shape = symmetry.observation_space.shape or ()
        if len(shape) != 3 or not isinstance(symmetry.observation_space, spaces.Box):
            raise AgentError(
                f"group convolutions take images [channels, height, width], got "
                f"{symmetry.observation_space}: use MlpPolicy, or method=equitune"
            )
        group, moves = symmetry.group, grid_moves(symmetry.observations)
        copies = _copies(architecture.features_dim, group.order, scale)
        super().__init__(symmetry.observation_space, copies)
        layers: list[nn.Module] = []
        channels, *size = shape
        for convolution in architecture.convolutions:
            outputs = _copies(convolution.channels, group.order, scale)
            kernel, stride, padding = (
                convolution.kernel_size,
                convolution.stride,
                convolution.padding,
            )
            size = [(length + 2 * padding - kernel) // stride + 1 for length in size]
            if min(size) < 1:
                raise AgentError(
                    f"images of {shape[1]} × {shape[2]} pixels are too small for "
                    f"{architecture.extractor.__name__}: use SmallCnn, or MlpPolicy"
                )
            layers += [
                RegularConv2d(channels, outputs, kernel, group, moves, stride, padding)
                if layers
                else LiftingConv2d(channels, outputs, kernel, stride, padding),
                nn.ReLU(),
            ]
            channels = outputs
        self.order = group.order
        self.cnn = nn.Sequential(*layers)
        self.linear = nn.Sequential(
            RegularLinear(channels * size[0] * size[1], copies, group), nn.ReLU()
        )

    def forward(self, orbit: Tensor) -> Tensor:
        """See the class."""
        rows = orbit.view(-1, self.order, *orbit.shape[1:])
        features: Tensor = self.linear(self.cnn(rows).flatten(2))
        return features


def build(
    symmetry: Symmetry, architecture: Architecture, scale: float = 1
) -> tuple[BaseFeaturesExtractor, nn.Sequential]:
    """Features extractor and layers, from the orbit of observations to Q-values.

    Args:
        symmetry: of the observations as the policy sees them.
        architecture: the plain network.
        scale: units of each layer, as a multiple of the plain one's; a layer has a whole number of
            copies of the regular representation, |G| units each, and at least one.
    """
    group = symmetry.group
    convolves = bool(architecture.convolutions)
    extractor: BaseFeaturesExtractor = (
        GroupCnn(symmetry, architecture, scale)
        if convolves
        else FramewiseFlatten(
            symmetry.observation_space, group.order, architecture.extractor_kwargs
        )
    )
    layers: list[nn.Module] = []
    inputs = extractor.features_dim
    for units in architecture.net_arch:
        copies = _copies(units, group.order, scale)
        is_regular = bool(layers) or convolves
        layers += [
            RegularLinear(inputs, copies, group) if is_regular else nn.Linear(inputs, copies),
            architecture.activation(),
        ]
        inputs = copies
    return extractor, nn.Sequential(*layers, ActionValues(inputs, symmetry))


def matching_scale(symmetry: Symmetry, architecture: Architecture, parameters: int) -> float:
    """The scale for `build` that brings the number of parameters nearest to this one."""

    def count(scale: float) -> int:
        with torch.device("meta"):  # sizes alone: no memory, no random numbers
            parts = build(symmetry, architecture, scale)
        return sum(parameter_count(part) for part in parts)

    # With |G| times the units no layer has fewer parameters than the plain one.
    low, high = 0.0, float(symmetry.group.order)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if count(middle) <= parameters else (low, middle)
    return min(low, high, key=lambda scale: abs(count(scale) - parameters))


def plain_parameters(symmetry: Symmetry, architecture: Architecture) -> int:
    """How many parameters the plain network has."""
    with torch.device("meta"):
        space = symmetry.observation_space
        extractor = architecture.extractor(space, **architecture.extractor_kwargs)
        network = QNetwork(
            space,
            symmetry.action_space,
            extractor,
            extractor.features_dim,
            list(architecture.net_arch),
            architecture.activation,
        )
    return parameter_count(network)


def parameter_count(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _copies(units: int, order: int, scale: float) -> int:
    return max(1, round(scale * units / order))
