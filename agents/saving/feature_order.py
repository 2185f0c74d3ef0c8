"""A network's inputs brought into another order of a Dict's keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import Tensor, nn

Weights = Mapping[str, Tensor]

OF_FEATURES = r"(^|\.)symmetrized\.weighting\.(inner\.)?h\.0\.weight"
OF_OBSERVATIONS = r"\.canonical_score\..*0"
"""Where our methods' own layers take features (without hidden layers), or flat observations."""


def with_keys_in_order(
    weights: Weights,
    first_layers: Iterable[str],
    extractor: nn.Module,
    saved: spaces.Dict,
    now: spaces.Dict,
) -> dict[str, Tensor]:
    """The weights of the same function for a Dict space whose keys stand in another order.

    SB3 concatenates the features of the keys in the order of the space, so the columns of the
    first layers move with the keys.

    Args:
        weights: of a policy that was made for ``saved``.
        first_layers: those that features come into; what comes behind the features stays there.
        extractor: the features extractor.
        saved: the space it was made for.
        now: the same space in today's order.

    Raises:
        ValueError: an extractor that is not known to concatenate.
    """
    if not isinstance(extractor, CombinedExtractor):
        raise ValueError(f"{type(extractor).__name__} may read the keys in their order")
    features = {
        key: getattr(part, "features_dim", None) or get_flattened_obs_dim(saved[key])
        for key, part in extractor.extractors.items()
    }
    flat = {key: get_flattened_obs_dim(part) for key, part in saved.spaces.items()}
    of_features = _columns(features, saved, now)
    of_observations = _columns(flat, saved, now)
    names = set(first_layers)
    has_hidden_layers = not any(_gives_actions(name, weights) for name in names)
    moved = {}
    for name, weight in weights.items():
        if name in names or (not has_hidden_layers and re.search(OF_FEATURES, name)):
            moved[name] = _moved(weight, of_features)
        elif re.search(OF_OBSERVATIONS + r"\.weight$", name) and weight.dim() == 2:
            moved[name] = _moved(weight, of_observations)
        else:
            moved[name] = weight
    return moved


def _columns(sizes: Mapping[str, int], saved: spaces.Dict, now: spaces.Dict) -> Tensor:
    """For every column now, which it was."""
    start, starts = 0, {}
    for key in saved.spaces:
        starts[key] = start
        start += sizes[key]
    return torch.cat([torch.arange(starts[k], starts[k] + sizes[k]) for k in now.spaces])


def _moved(weight: Tensor, columns: Tensor) -> Tensor:
    return torch.cat([weight[:, columns], weight[:, len(columns) :]], dim=1)


def _gives_actions(name: str, weights: Weights) -> bool:
    """Whether a first layer is also the last one of the network that acts."""
    if name in ("action_net.weight", "actor.mu.weight"):
        return True
    prefix = name.rsplit(".", 2)[0]
    if prefix not in ("q_net.q_net", "quantile_net.quantile_net", "actor.mu"):
        return False
    return not any(
        key != name and key.startswith(f"{prefix}.") and key.endswith(".weight") for key in weights
    )


def same_order(saved: Any, now: Any) -> bool:
    """Whether the keys of two Dict spaces stand in one order; true of other spaces."""
    if not isinstance(saved, spaces.Dict) or not isinstance(now, spaces.Dict):
        return True
    return list(saved.spaces) == list(now.spaces)
