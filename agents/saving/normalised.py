"""An agent that was trained behind `VecNormalize`: its statistics become part of its network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    beside = statistics_beside(agent.path)
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
    return not normalises_itself(agent) and (
        statistics_beside(agent.path) is not None
        or was_normalised(agent.data)
        or _run_says_normalised(agent.path)
        or _folder_says_normalised(agent.path)
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
