"""Labelled images, upright and turned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

from equirl import GroupAction
from equirl.errors import ConfigError
from running import need

DATA = ("digits", "cifar10")


class Split(NamedTuple):
    """Images ``[n, C, size, size]`` of mean 0 and variance 1, and labels ``[n]``."""

    images: Tensor
    labels: Tensor


def load(settings: DictConfig, channels: int, seed: int) -> tuple[Split, Split]:
    """Training and test images of the data set, at most ``settings.images`` of each.

    Args:
        settings: ``data``, ``size`` (0 keeps that of the data), ``images``, ``root``, ``download``,
            ``device``.
        channels: that the network takes.
        seed: of the split.

    Raises:
        ConfigError: the data set is not there.
    """
    is_digits = settings.data == "digits"
    images, labels = _digits() if is_digits else _cifar10(settings.root, settings.download)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.3, random_state=seed, stratify=labels
    )
    limit = settings.images or len(labels)
    return tuple(  # type: ignore[return-value]
        Split(
            _as_network_takes(images[rows[:limit]], channels, settings.size).to(settings.device),
            labels[rows[:limit]].to(settings.device),
        )
        for rows in (train, test)
    )


def turned(images: Tensor, action: GroupAction, seed: int) -> Tensor:
    """Each image moved by an element drawn for it."""
    drawn = np.random.default_rng(seed).integers(action.group.order, size=len(images))
    moved: Tensor = action.transform(drawn, images)
    return moved


def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None]
    return images, torch.tensor(digits.target)


def _cifar10(root: str, download: bool) -> tuple[Tensor, Tensor]:
    datasets = need("torchvision.datasets", "torchvision")
    try:
        parts = [datasets.CIFAR10(root, train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            f"CIFAR-10 is not in root={root}: name its folder, or download=true ({error})"
        ) from None
    images = np.concatenate([part.data for part in parts]).transpose(0, 3, 1, 2)
    labels = np.concatenate([part.targets for part in parts])
    return torch.tensor(images, dtype=torch.float32), torch.tensor(labels)


def _as_network_takes(images: Tensor, channels: int, size: int) -> Tensor:
    images = (images - images.mean()) / images.std()
    if images.shape[1] < channels:
        images = images.expand(-1, channels, -1, -1)
    if size:
        images = F.interpolate(images, size=(size, size), mode="bilinear")
    return images.contiguous()
