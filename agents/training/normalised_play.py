"""Agents behind a `VecNormalize` at play in raw environments, and their statistics in files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.saving.reading.saved_normalisation import read_normalisation
from equirl.agents.training.checkpoints import save_atomically
from equirl.agents.training.evaluation import Player, takes_masks
from equirl.runs.atomic_write import written_whole


@dataclass(frozen=True)
class _Normalised:
    """A player whose observations are normalised first."""

    player: Player
    normalise: Callable[[Any], Any]

    def predict(
        self, observation: Any, *, deterministic: bool = False, **masks: Any
    ) -> tuple[Any, Any]:
        """See `Player`; ``masks`` are for a player that takes them."""
        player: Any = self.player
        found: tuple[Any, Any] = player.predict(
            self.normalise(observation), deterministic=deterministic, **masks
        )
        return found

    @property
    def takes_masks(self) -> bool:
        """See `Player`."""
        return takes_masks(self.player)


def as_trained(player: Player, model: BaseAlgorithm) -> Player:
    """The player as it sees the environments of a model in training, by the statistics of now."""
    normalizer = model.get_vec_normalize_env()
    return player if normalizer is None else _Normalised(player, normalizer.normalize_obs)


def as_saved(player: Player, path: Path) -> Player:
    """The player by the statistics that `save_with_statistics` left beside its file, if any."""
    file = _statistics(path)
    if not file.is_file():
        return player
    saved = read_normalisation(file)
    seen = saved.observations[None]

    def normalise(observation: Any) -> Any:
        deviation = (observation - seen.mean) / np.sqrt(seen.var + saved.epsilon)
        return np.clip(deviation, -saved.clip_obs, saved.clip_obs).astype(np.float32)

    return _Normalised(player, normalise)


def save_with_statistics(model: BaseAlgorithm, path: Path) -> None:
    """Save a model, and the statistics of its `VecNormalize` beside it, where there is one.

    Args:
        model: in training.
        path: ``NAME.zip``; statistics go to ``NAME.vecnormalize.pkl``.
    """
    save_statistics(model, path)
    save_atomically(model, path)


def save_statistics(model: BaseAlgorithm, path: Path) -> None:
    """The statistics alone; see `save_with_statistics`."""
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        with written_whole(_statistics(path)) as aside:
            normalizer.save(str(aside))


def remove_statistics_alone(folder: Path) -> None:
    """Those of a folder whose model is not there."""
    for file in folder.glob("*.vecnormalize.pkl"):
        if not file.with_name(file.name.replace(".vecnormalize.pkl", ".zip")).exists():
            file.unlink()


def _statistics(path: Path) -> Path:
    return path.with_name(f"{path.stem}.vecnormalize.pkl")
