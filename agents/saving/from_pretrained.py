"""`from_pretrained`: any trained SB3 agent made equivariant; its algorithm is read off the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from equirl.agents.families import FAMILIES, class_of
from equirl.agents.saving.agent_file import read_parts
from equirl.agents.saving.architecture import in_todays_layout
from equirl.agents.saving.normalised import with_normalisation
from equirl.agents.saving.reading.saved_normalisation import SavedNormalisation, normalisation_of
from equirl.agents.saving.reading.saved_spaces import SavedSpace
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.errors import AgentError


def from_pretrained(
    path_or_model: str | Path | BaseAlgorithm,
    env: GymEnv | str,
    method: Any = "equitune",
    *,
    normalize: str | Path | bool | SavedNormalisation | None = None,
    **kwargs: Any,
) -> BaseAlgorithm:
    """A trained plain agent made equivariant; its weights stay as they are (arXiv 2305.09900).

    An agent that was trained behind `VecNormalize` sees normalised observations, by statistics that
    are not symmetric. Here they become part of the network, M(gs) = net(normalise(gs)), and the
    environment hands out raw observations.

    Args:
        path_or_model: the agent's ``.zip``, read and never run; or a model, for an agent
            that needs classes of your own, whose `VecNormalize` is found on it.
        env: the environment it was trained in, with a symmetry, not normalised.
        method: see `equirl.Symmetrized`.
        normalize: the file that ``VecNormalize.save`` wrote; False says that there was none.
        kwargs: everything the algorithm's equivariant class takes.

    Raises:
        AgentError: the agent cannot be read, is equivariant already, is of an algorithm that is not
            known, was made for other spaces, or was trained behind `VecNormalize` and ``normalize``
            does not say with which statistics.
        SymmetryError: the environment's symmetry is not known.

    Example:
        >>> from stable_baselines3 import DQN
        >>> plain = DQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu")
        >>> from_pretrained(plain, "CartPole-v1", method="equizero").symmetry.group.names
        ('e', 'mirror')
    """
    if isinstance(path_or_model, BaseAlgorithm):
        agent, classes = in_memory(path_or_model)
        kwargs["policy_kwargs"] = {**classes, **kwargs.get("policy_kwargs", {})}
        normalize = statistics_of(path_or_model, normalize)
    else:
        agent = read_agent(path_or_model)
    if agent.is_equivariant:
        raise AgentError(f"{agent.path} is equivariant already: give a plain agent")
    return pretrained(
        with_normalisation(agent, normalize, kwargs.get("policy_kwargs")), env, method, **kwargs
    )


def pretrained(agent: SavedAgent, env: GymEnv | str, method: Any, **kwargs: Any) -> BaseAlgorithm:
    """A plain agent made equivariant; or, with the method None, as it is.

    Raises:
        AgentError: see `from_pretrained`.
    """
    family = FAMILIES[agent.architecture.algorithm]
    if method is None:
        stock: type[BaseAlgorithm] = class_of(family.stock)
        return agent.build(stock, env, **kwargs)
    equivariant: type[BaseAlgorithm] = class_of(family.equivariant)
    return agent.build(equivariant, env, method=method, **kwargs)


def statistics_of(model: BaseAlgorithm, normalize: Any) -> Any:
    """``normalize``, or where that says nothing the statistics that the model is behind."""
    behind = model.get_vec_normalize_env()
    return (
        normalisation_of(behind) if behind is not None and normalize in (None, True) else normalize
    )


def in_memory(model: BaseAlgorithm) -> tuple[SavedAgent, dict[str, Any]]:
    """A model as if it had been read from a file, and the classes that only it knows."""
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    path = Path(f"the {type(model).__name__} given")
    data, weights, training = read_parts(path, file)
    agent = SavedAgent(path, data, in_todays_layout(weights), training, in_memory=True)
    for name in ("observation_space", "action_space"):
        read = getattr(agent, name)
        vars(agent)[name] = SavedSpace(getattr(model, name), False, read.description)
    classes = {
        name: value
        for name, value in model.policy_kwargs.items()
        if isinstance(value, type) or name == "features_extractor_kwargs"
    }
    return agent, classes
