"""`from_pretrained`: any trained SB3 agent made equivariant; its algorithm is read off the file."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import GymEnv

from equirl.agents.dqn import EquivariantDQN
from equirl.agents.features import NormalisedCombined, NormalisedFlatten
from equirl.agents.saving.agent_file import read_parts
from equirl.agents.saving.architecture import in_todays_layout
from equirl.agents.saving.reading.saved_normalisation import (
    SavedNormalisation,
    read_normalisation,
    statistics_beside,
    was_normalised,
)
from equirl.agents.saving.reading.saved_spaces import SavedSpace
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.errors import AgentError

Builder = Callable[..., BaseAlgorithm]
"""``(agent, env, method, **kwargs)`` to an equivariant model with the agent's weights."""


def _dqn(agent: SavedAgent, env: GymEnv | str, method: Any, **kwargs: Any) -> EquivariantDQN:
    return agent.build(EquivariantDQN, env, method=method, **kwargs)


def _off_policy(name: str) -> Builder:
    """The builder of the class of this name in `equirl.agents`, which may need sb3-contrib."""

    def build(agent: SavedAgent, env: GymEnv | str, method: Any, **kwargs: Any) -> BaseAlgorithm:
        cls: type[BaseAlgorithm] = getattr(import_module("equirl.agents"), name)
        return agent.build(cls, env, method=method, **kwargs)

    return build


BUILDERS: dict[str, Builder] = {
    "dqn": _dqn,
    "qrdqn": _off_policy("EquivariantQRDQN"),
    "sac": _off_policy("EquivariantSAC"),
    "td3": _off_policy("EquivariantTD3"),
    "ddpg": _off_policy("EquivariantDDPG"),
    "tqc": _off_policy("EquivariantTQC"),
}
"""By algorithm, as `Architecture` names it."""


def from_pretrained(
    path_or_model: str | Path | BaseAlgorithm,
    env: GymEnv | str,
    method: Any = "equitune",
    *,
    normalize: str | Path | bool | None = None,
    **kwargs: Any,
) -> BaseAlgorithm:
    """A trained plain agent made equivariant; its weights stay as they are (arXiv 2305.09900).

    An agent that was trained behind `VecNormalize` sees normalised observations, by statistics that
    are not symmetric. Here they become part of the network, M(gs) = net(normalise(gs)), and the
    environment hands out raw observations.

    Args:
        path_or_model: the agent's ``.zip``, read and never run; or a model, for an agent
            that needs classes of your own.
        env: the environment it was trained in, with a symmetry, not normalised.
        method: see `equirl.Symmetrized`.
        normalize: the file that ``VecNormalize.save`` wrote; False says that there was none.
        kwargs: everything the algorithm's equivariant class takes.

    Raises:
        AgentError: the agent cannot be read, is equivariant already, was made for other spaces, is
            of an algorithm that has no equivariant counterpart yet, or was trained behind
            `VecNormalize` and ``normalize`` does not say with which statistics.
        SymmetryError: the environment's symmetry is not known.

    Example:
        >>> from stable_baselines3 import DQN
        >>> plain = DQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu")
        >>> from_pretrained(plain, "CartPole-v1", method="equizero").symmetry.group.names
        ('e', 'mirror')
    """
    if isinstance(path_or_model, BaseAlgorithm):
        agent, classes = _in_memory(path_or_model)
        given = kwargs.pop("policy_kwargs", {})
        kwargs["policy_kwargs"] = {**classes, **given}
    else:
        agent = read_agent(path_or_model)
    if agent.is_equivariant:
        raise AgentError(f"{agent.path} is equivariant already: give a plain agent")
    algorithm = agent.architecture.algorithm
    if algorithm not in BUILDERS:
        raise AgentError(
            f"{agent.path} is an agent of {algorithm}, which cannot be made equivariant yet; "
            f"{', '.join(BUILDERS)} can"
        )
    normalisation = _normalisation(agent, normalize)
    if normalisation is not None and normalisation.observations:
        policy_kwargs = kwargs.get("policy_kwargs", {})
        kwargs["policy_kwargs"] = {**normalising(agent, normalisation), **policy_kwargs}
    return BUILDERS[algorithm](agent, env, method, **kwargs)


def normalising(agent: SavedAgent, normalisation: SavedNormalisation) -> dict[str, Any]:
    """Policy arguments that make the network normalise what it sees.

    Args:
        agent: trained behind this normalisation.
        normalisation: what `read_normalisation` read.

    Raises:
        AgentError: the statistics are of other observations, or the agent has a features extractor
            that ours does not stand for.
    """
    space = agent.observation_space.space
    if space is not None:
        normalisation.check_fits(normalisation.observation_space or space)
    described = agent.policy_kwargs({})
    known = {FlattenExtractor: NormalisedFlatten, CombinedExtractor: NormalisedCombined}
    plain = CombinedExtractor if agent.observation_space.is_dict else FlattenExtractor
    extractor = described.get("features_extractor_class", plain)
    if extractor not in known or agent.architecture.policy == "CnnPolicy":
        raise AgentError(
            f"{agent.path} has the features extractor {extractor.__name__}, in front of which "
            "observations are not normalised yet"
        )
    arguments = {
        **described.get("features_extractor_kwargs", {}),
        **normalisation.extractor_kwargs(),
    }
    return {
        "features_extractor_class": known[extractor],
        "features_extractor_kwargs": arguments,
    }


def _normalisation(
    agent: SavedAgent, normalize: str | Path | bool | None
) -> SavedNormalisation | None:
    if normalize is False:
        return None
    if isinstance(normalize, str | Path):
        return read_normalisation(normalize)
    beside = statistics_beside(agent.path)
    if beside is not None:
        raise AgentError(
            f"{beside} lies beside {agent.path}: give it, normalize={str(beside)!r}, or "
            "normalize=False if the agent was trained without it"
        )
    if was_normalised(agent.data) or normalize is True:
        raise AgentError(
            f"{agent.path} was trained behind VecNormalize: give its statistics, "
            "normalize='vecnormalize.pkl', or normalize=False"
        )
    return None


def _in_memory(model: BaseAlgorithm) -> tuple[SavedAgent, dict[str, Any]]:
    """A model as if it had been read from a file, and the classes that only it knows."""
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    path = Path(f"the {type(model).__name__} given")
    data, weights, learning_rate = read_parts(path, file)
    agent = SavedAgent(path, data, in_todays_layout(weights), learning_rate)
    for name in ("observation_space", "action_space"):
        read = getattr(agent, name)
        vars(agent)[name] = SavedSpace(getattr(model, name), False, read.description)
    classes = {
        name: value
        for name, value in model.policy_kwargs.items()
        if isinstance(value, type) or name == "features_extractor_kwargs"
    }
    return agent, classes
