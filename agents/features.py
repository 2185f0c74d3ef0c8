"""Features extractors: which one a policy has, and some for what SB3's own do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from torch import Tensor, nn


class WithExtractor(BaseModel):
    """A policy with ``default_extractor`` unless told otherwise; stands before the policy."""

    default_extractor: ClassVar[type[BaseFeaturesExtractor]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        arguments = {"features_extractor_class": self.default_extractor, **kwargs}
        super().__init__(*args, **arguments)


class ForImages(WithExtractor):
    """A policy with NatureCNN unless told otherwise; stands before the policy."""

    default_extractor = NatureCNN


class ForDicts(WithExtractor):
    """A policy with `CombinedExtractor` unless told otherwise; stands before the policy."""

    default_extractor = CombinedExtractor


class SmallCnn(BaseFeaturesExtractor):
    """A convolutional network for boards too small for NatureCNN, such as 10 × 10.

    Two 3 × 3 convolutions that keep the size, then one linear layer; SB3's ``CnnPolicy`` with
    ``policy_kwargs=dict(features_extractor_class=SmallCnn)``. After Young & Tian 2019
    (arXiv 1903.03176), whose MinAtar network has one such convolution.

    Args:
        observation_space: an image, channels first, as SB3 hands it on.
        features_dim: number of features.
        channels: of each convolution.

    Raises:
        ValueError: the observations are not images, or their channels come last.

    Example:
        >>> import numpy as np
        >>> board = spaces.Box(0, 255, (3, 6, 6), np.uint8)
        >>> SmallCnn(board, features_dim=32)(torch.zeros(5, 3, 6, 6)).shape
        torch.Size([5, 32])
    """

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 128, channels: int = 32
    ) -> None:
        super().__init__(observation_space, features_dim)
        shape = observation_space.shape
        if len(shape) != 3:
            raise ValueError(f"SmallCnn takes images [channels, height, width], got {shape}")
        # What looks like channels last can be so only where SB3 did not recognise an image.
        if shape[2] < min(shape[:2]) and not is_image_space(observation_space):
            raise ValueError(
                f"SmallCnn takes images [channels, height, width], and {shape} looks like channels "
                f"last: SB3 puts them first for uint8 from 0 to 255 only, not for "
                f"{observation_space.dtype} from {observation_space.low.min()} to "
                f"{observation_space.high.max()}; use DtypeObservation and RescaleObservation"
            )
        self.cnn = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            inputs = self.cnn(torch.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(inputs, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """``[batch, channels, height, width] -> [batch, features_dim]``."""
        features: Tensor = self.linear(self.cnn(observations))
        return features


class Normalise(nn.Module):
    """``clip((s − mean) / √(var + epsilon), ±clip)`` in double precision, as `VecNormalize`."""

    mean: Tensor
    scale: Tensor

    def __init__(
        self, mean: Sequence[Any], var: Sequence[Any], epsilon: float, clip: float
    ) -> None:
        super().__init__()
        self.clip = clip
        # Not in the state dict, whose keys stay those of the plain network.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64), persistent=False)
        scale = (torch.tensor(var, dtype=torch.float64) + epsilon).sqrt()
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """``[batch, *shape]`` in and out."""
        normalised = (observations.double() - self.mean) / self.scale
        return normalised.clamp(-self.clip, self.clip).to(observations.dtype)


class NormalisedFlatten(FlattenExtractor):
    """Observations as `VecNormalize` hands them on, then flattened; it has no parameters.

    With it normalisation is part of the network: ``clip((s − mean) / √(var + epsilon), ±clip)``.

    Args:
        observation_space: one array, no image.
        mean: of every entry, ``[*shape]``.
        var: likewise.
        epsilon: see above.
        clip: see above.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        mean: Sequence[Any],
        var: Sequence[Any],
        epsilon: float = 1e-8,
        clip: float = 10.0,
    ) -> None:
        super().__init__(observation_space)
        self.normalise = Normalise(mean, var, epsilon, clip)

    def normalised(self, observations: Tensor) -> Tensor:
        """``[batch, *shape]`` in and out."""
        normalised: Tensor = self.normalise(observations)
        return normalised

    def forward(self, observations: Tensor) -> Tensor:
        """``[batch, *shape] -> [batch, entries]``."""
        flat: Tensor = super().forward(self.normalised(observations))
        return flat


class NormalisedCombined(CombinedExtractor):
    """`CombinedExtractor` behind `VecNormalize`; see `NormalisedFlatten`.

    Args:
        observation_space: a Dict.
        moments: by key, the ``mean`` and ``var`` of those that are normalised.
        epsilon: see `NormalisedFlatten`.
        clip: see `NormalisedFlatten`.
        kwargs: everything else `CombinedExtractor` takes.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        moments: Mapping[str, Mapping[str, Any]],
        epsilon: float = 1e-8,
        clip: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, **kwargs)
        self.normalise = nn.ModuleDict(
            {
                key: Normalise(part["mean"], part["var"], epsilon, clip)
                for key, part in moments.items()
            }
        )

    def normalised(self, observations: Any) -> Any:
        """Each ``[batch, *shape]`` in and out."""
        return {
            key: self.normalise[key](part) if key in self.normalise else part
            for key, part in observations.items()
        }

    def forward(self, observations: Any) -> Tensor:
        """Each ``[batch, *shape]``, to ``[batch, features_dim]``."""
        features: Tensor = super().forward(self.normalised(observations))
        return features
