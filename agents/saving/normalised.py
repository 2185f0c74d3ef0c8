"""An agent that was trained behind `VecNormalize`: its statistics become part of its network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor

from equirl.agents.features import NormalisedCombined, NormalisedFlatten
from equirl.agents.saving.reading.saved_normalisation import (
    SavedNormalisation,
    read_normalisation,
    statistics_beside,
    was_normalised,
)
from equirl.agents.saving.saved_agent import SavedAgent
from equirl.errors import AgentError
from equirl.shown import shown
from equirl.symmetrize.structures import parts
from equirl.symmetry import Symmetry

NORMALISING = {FlattenExtractor: NormalisedFlatten, CombinedExtractor: NormalisedCombined}
"""The features extractors that normalisation can be put in front of, and what stands for both."""


def with_normalisation(
    agent: SavedAgent,
    normalize: str | Path | bool | SavedNormalisation | None,
    policy_kwargs: dict[str, Any] | None = None,
) -> SavedAgent:
    """The agent as a function of raw observations, M(gs) = net(normalise(gs)).

    Args:
        agent: what `read_agent` read.
        normalize: the file that ``VecNormalize.save`` wrote, or what was read from one; False says
            that there was none. None: there is none that the file or its folder tells of.
        policy_kwargs: what the user gives beside the file.

    Raises:
        AgentError: the agent was trained behind `VecNormalize` and ``normalize`` does not say with
            which statistics; they cannot be read, or are of other observations.
    """
    found = _normalisation(agent, normalize)
    if found is None or not found.observations:
        return agent
    space = agent.observation_space.space or found.observation_space
    if space is not None:
        found.check_fits(space)
    if agent.is_equivariant and not _commute(agent.symmetry, found):
        raise AgentError(
            f"{agent.path} was trained on normalised observations, and its symmetry is one of "
            f"these: of raw ones {found.path} makes another. Play it behind SymmetricVecNormalize"
        )
    kwargs = agent.policy_kwargs(policy_kwargs or {})
    plain = CombinedExtractor if agent.observation_space.is_dict else FlattenExtractor
    extractor = kwargs.get("features_extractor_class", plain)
    if extractor in NORMALISING.values():
        raise AgentError(f"{agent.path} normalises observations itself: leave normalize out")
    if extractor not in NORMALISING or agent.architecture.policy == "CnnPolicy":
        raise AgentError(
            f"{agent.path} has the features extractor {extractor.__name__}, in front of which "
            "observations are not normalised yet"
        )
    arguments = {**kwargs.get("features_extractor_kwargs", {}), **found.extractor_kwargs()}
    normalising: dict[str, Any] = {
        "features_extractor_class": NORMALISING[extractor],
        "features_extractor_kwargs": arguments,
    }
    made = replace(agent, normalisation=found, normalising=normalising)
    vars(made).update(observation_space=agent.observation_space, action_space=agent.action_space)
    return made


def _commute(symmetry: Symmetry | None, found: SavedNormalisation) -> bool:
    """Whether N(gs) = gN(s) for every g; N is the normalisation, without its clipping.

    Only then is an agent that is equivariant behind it so in front of it, by the same symmetry.
    """
    if symmetry is None:  # of a file that does not describe it
        return True
    space = symmetry.observation_space
    random = np.random.default_rng(0)

    def normalised(s: Any) -> Any:
        def of(key: str | None, part: Any) -> Any:
            moments = found.observations.get(key)
            scale = None if moments is None else np.sqrt(moments.var + found.epsilon)
            return part if moments is None else (part - moments.mean) / scale

        return {k: of(k, part) for k, part in s.items()} if isinstance(s, dict) else of(None, s)

    def drawn(key: str | None, part: spaces.Space[Any]) -> Any:
        moments = found.observations.get(key)
        if moments is None:
            return np.stack([part.sample() for _ in range(8)])
        deviations = random.normal(size=(8, *moments.mean.shape))
        return moments.mean + deviations * np.sqrt(moments.var + found.epsilon)

    if isinstance(space, spaces.Dict):
        states: Any = {key: drawn(key, part) for key, part in space.spaces.items()}
    else:
        states = drawn(None, space)
    for g in range(symmetry.group.order):
        before = symmetry.transform_observation(g, normalised(states))
        after = normalised(symmetry.transform_observation(g, states))
        for one, other in zip(parts(before), parts(after), strict=True):
            if not np.allclose(one, other, rtol=1e-3, atol=1e-3):
                return False
    return True


def _normalisation(
    agent: SavedAgent, normalize: str | Path | bool | SavedNormalisation | None
) -> SavedNormalisation | None:
    if normalize is False:
        return None
    if isinstance(normalize, SavedNormalisation):
        return normalize
    if isinstance(normalize, str | Path):
        return read_normalisation(normalize)
    if normalize not in (None, True):
        raise AgentError(
            f"normalize must be a file of statistics, or false, got {shown(normalize)}"
        )
    beside = None if agent.in_memory else statistics_beside(agent.path)
    if beside is not None and not normalises_itself(agent):
        raise AgentError(
            f"{beside} lies beside {agent.path}: give it, normalize={str(beside)!r}, or "
            "normalize=False if the agent was trained without it"
        )
    if trained_normalised(agent) or normalize is True:
        raise AgentError(
            f"{agent.path} was trained behind VecNormalize: give its statistics, "
            "normalize='vecnormalize.pkl', or normalize=False"
        )
    return None


def trained_normalised(agent: SavedAgent) -> bool:
    """Whether its file or its folder tells that an agent was trained behind `VecNormalize`.

    Not where the statistics are part of its network.
    """
    if normalises_itself(agent):
        return False
    return was_normalised(agent.data) or (
        not agent.in_memory
        and (
            statistics_beside(agent.path) is not None
            or _run_says_normalised(agent.path)
            or _folder_says_normalised(agent.path)
        )
    )


def normalises_itself(agent: SavedAgent) -> bool:
    """Whether statistics are part of its network already."""
    kwargs = agent.data.get("policy_kwargs")
    described = kwargs.get("features_extractor_class") if isinstance(kwargs, dict) else None
    return any(f".{extractor.__name__}'" in str(described) for extractor in NORMALISING.values())


def _run_says_normalised(path: Path) -> bool:
    """Whether an agent lies in a run of ``equirl train`` with ``normalize=true``."""
    for file in (folder / "config.yaml" for folder in path.absolute().parents[:2]):
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            return re.search(r"^normalize: true\s*$", text, re.MULTILINE) is not None
    return False


def _folder_says_normalised(path: Path) -> bool:
    """Whether the configuration that RL Zoo wrote beside an agent has ``normalize``."""
    for folder in (path.parent / path.stem, path.parent):
        file = folder / "config.yml"
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^\s*(?:- )*normalize\s*\n\s*- (.*)$", text, re.MULTILINE)
            return found is not None and found[1].strip(" '\"").lower() not in ("false", "null")
    return False
