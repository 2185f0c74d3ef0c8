"""The statistics that `VecNormalize` saved beside an agent, read without running anything."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents.saving.reading.inert_pickles import Inert, read_inertly, value_of
from equirl.agents.saving.reading.saved_spaces import space_of
from equirl.errors import AgentError
from equirl.shown import reason

SETTINGS: dict[str, type[float]] = {
    "training": bool,
    "norm_obs": bool,
    "norm_reward": bool,
    "clip_obs": float,
    "clip_reward": float,
    "gamma": float,
    "epsilon": float,
}
"""What a `VecNormalize` is made with, under the names that it keeps."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance of what was seen.

    Args:
        mean: ``[*shape]``.
        var: ``[*shape]``.
        count: how much was seen.
    """

    mean: npt.NDArray[np.float64]
    var: npt.NDArray[np.float64]
    count: float


@dataclass(frozen=True)
class SavedNormalisation:
    """What a `VecNormalize` does: clip((s − mean) / √(var + epsilon), ±clip_obs).

    Args:
        path: where it was read from.
        observations: by key of a Dict space; None is the key of observations that are one array.
            Empty where observations were left alone.
        returns: of discounted returns, whose spread rewards are divided by.
        settings: what `VecNormalize` was made with, by the names of its arguments (`SETTINGS`).
        observation_space: before normalising; None where the file does not say it in plain data.
    """

    path: Path
    observations: Mapping[str | None, Moments]
    returns: Moments
    settings: Mapping[str, float]
    observation_space: spaces.Space[Any] | None

    @property
    def epsilon(self) -> float:
        """See the class."""
        return self.settings["epsilon"]

    @property
    def clip_obs(self) -> float:
        """See the class."""
        return self.settings["clip_obs"]

    def check_fits(self, space: spaces.Space[Any]) -> None:
        """Refuse statistics of other observations.

        Raises:
            AgentError: the keys or shapes differ, or images were normalised.
        """
        parts: Mapping[Any, spaces.Space[Any]] = (
            space.spaces if isinstance(space, spaces.Dict) else {None: space}
        )
        for key, moments in self.observations.items():
            part = parts.get(key)
            if part is None or part.shape != moments.mean.shape:
                which = "observations" if key is None else f"observations[{key!r}]"
                raise AgentError(
                    f"{self.path} has statistics of {which} of shape {moments.mean.shape}, the "
                    f"environment has {space}: give the file that was saved with the agent"
                )
            if is_image_space(part):
                raise AgentError(f"{self.path} has statistics of images, which are not supported")

    def extractor_kwargs(self) -> dict[str, Any]:
        """Arguments of `NormalisedFlatten` or `NormalisedCombined`, in plain numbers."""
        plain = {
            key: {"mean": moments.mean.tolist(), "var": moments.var.tolist()}
            for key, moments in self.observations.items()
        }
        moments: dict[str, Any] = plain.get(None, {"moments": plain})
        return {**moments, "epsilon": self.epsilon, "clip": self.clip_obs}


def read_normalisation(path: str | Path) -> SavedNormalisation:
    """Reads what ``VecNormalize.save`` wrote, of any SB3 version, without running code from it.

    Raises:
        AgentError: there is no such file, it is damaged, or holds no `VecNormalize`.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AgentError(f"there are no statistics at {path}: {error.strerror}") from error
    try:
        read = read_inertly(content)
    except Exception as error:  # damaged bytes can fail in any way
        raise AgentError(f"{path} is damaged or not a pickle ({reason(error)})") from error
    if not isinstance(read, Inert) or not {"ret_rms", "norm_obs"} <= read.state.keys():
        raise AgentError(
            f"{path} does not hold a VecNormalize: give the file that VecNormalize.save wrote"
        )
    try:
        return _normalisation(path, {name: value_of(v) for name, v in read.state.items()})
    except Exception as error:  # what is not as VecNormalize leaves it can fail in any way
        raise AgentError(f"{path} is damaged: {reason(error)}") from error


def normalisation_of(wrapper: VecNormalize) -> SavedNormalisation:
    """What a `VecNormalize` does at this moment."""
    return _normalisation(Path(f"the {type(wrapper).__name__} given"), vars(wrapper))


def was_normalised(data: Mapping[str, Any]) -> bool:
    """Whether an agent's file shows that it was trained on normalised observations.

    On policy, SB3 keeps the last observation as the environment gave it where there is a
    `VecNormalize`. Off policy it always does, and nothing can be told.

    Args:
        data: the JSON description.
    """
    if "gae_lambda" not in data:
        return False
    original: Any = _last(data.get("_last_original_obs"))
    seen: Any = _last(data.get("_last_obs"))
    if original is None or seen is None:
        return original is not None
    if not isinstance(original, dict) or not isinstance(seen, dict):
        original, seen = {None: original}, {None: seen}
    return any(not np.array_equal(part, seen[key]) for key, part in original.items())


def statistics_beside(agent: Path) -> Path | None:
    """The file of statistics that lies where SB3 or RL Zoo put it, for an agent's zip."""
    names = [f"{agent.stem}.vecnormalize.pkl", "vecnormalize.pkl"]
    if agent.stem.endswith("_steps"):  # saved by SB3's CheckpointCallback
        prefix, _, steps = agent.stem.removesuffix("_steps").rpartition("_")
        names.insert(0, f"{prefix}_vecnormalize_{steps}_steps.pkl")
    files = [agent.parent / name for name in names]
    files.append(agent.parent / agent.stem / "vecnormalize.pkl")
    return next((file for file in files if file.is_file()), None)


def _last(described: Any) -> Any:
    if not isinstance(described, dict):
        return None
    try:
        return read_inertly(base64.b64decode(described[":serialized:"]))
    except Exception:  # damaged: it tells nothing
        return None


def _normalisation(path: Path, state: dict[str, Any]) -> SavedNormalisation:
    observations: dict[str | None, Moments] = {}
    settings = {name: kind(state[name]) for name, kind in SETTINGS.items()}
    if settings["norm_obs"]:
        statistics = state["obs_rms"]
        if isinstance(statistics, dict):
            observations.update({str(key): _moments(part) for key, part in statistics.items()})
        else:
            observations[None] = _moments(statistics)
    if not (settings["epsilon"] >= 0 and settings["clip_obs"] > 0):
        raise ValueError(f"epsilon is {settings['epsilon']}, clip_obs {settings['clip_obs']}")
    space = state.get("observation_space")
    space = space if isinstance(space, spaces.Space) else space_of(space)
    return SavedNormalisation(path, observations, _moments(state["ret_rms"]), settings, space)


def _moments(read: Any) -> Moments:
    seen: Mapping[str, Any] = read.state if isinstance(read, Inert) else vars(read)
    state = {name: value_of(value) for name, value in seen.items()}
    mean, var = (np.array(state[name], dtype=np.float64) for name in ("mean", "var"))
    count = float(state["count"])
    if mean.shape != var.shape or not np.isfinite(mean).all() or not (var >= 0).all():
        raise ValueError("its means and variances are not those of anything")
    if not math.isfinite(count) or not np.isfinite(var).all():
        raise ValueError("its variances are not finite")
    return Moments(mean, var, count)
