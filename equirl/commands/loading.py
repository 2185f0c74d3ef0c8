"""From ``agent=PATH`` to the agent and the environment it was trained in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
from omegaconf import DictConfig, OmegaConf
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.families import FAMILIES, class_of
from equirl.agents.saving.hub import local_agent
from equirl.agents.saving.normalised import trained_normalised, with_normalisation
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.commands.composition import given_keys
from equirl.configs.fields import check_values
from equirl.configs.old_keys import taken_out
from equirl.configs.schema import EnvConfig
from equirl.errors import AgentError, ConfigError, UntrustedError
from equirl.runs.run_directory import RunDirectory
from equirl.shown import reason


def with_agent(config: DictConfig) -> Any:
    """The configuration as its dataclass, its values checked.

    Raises:
        ConfigError: no agent is named, or a value is out of its bounds.
    """
    if OmegaConf.is_missing(config, "agent") or not config.agent:
        raise ConfigError("which agent? Say agent=PATH, the .zip of a trained agent")
    settings = OmegaConf.to_object(config)
    check_values(settings)
    return settings


def named_agent(settings: Any) -> SavedAgent:
    """The agent that ``agent=`` and ``normalize=`` name.

    Raises:
        AgentError: it cannot be read; or was trained behind `VecNormalize`, and ``normalize`` does
            not say with which statistics.
    """
    agent = read_agent(local_agent(settings.agent))
    if getattr(settings, "trust", "weights") == "weights":
        return with_normalisation(agent, settings.normalize)
    if settings.normalize not in (None, False):
        raise ConfigError("normalize= reads statistics as data: leave trust=pickle out")
    if settings.normalize is None and trained_normalised(agent):
        raise ConfigError(
            f"{agent.path} was trained behind VecNormalize: leave trust=pickle out and give its "
            "statistics, normalize=FILE, or say normalize=false"
        )
    return agent


def load_model(
    agent: SavedAgent, env: gym.Env[Any, Any] | None, device: str, trust: str = "weights"
) -> BaseAlgorithm:
    """The saved agent as a model, of our own class or plain.

    Args:
        agent: what `named_agent` read.
        env: its environment; may be left out where the file says enough.
        device: where the networks go.
        trust: ``"weights"`` unpickles nothing (`equirl.agents.saving.restore`), ``"pickle"`` is
            SB3's ``load``, which runs what the file says.

    Raises:
        AgentError: it was made for other spaces, or cannot be read.
    """
    if trust == "weights":
        try:
            return restore(agent, env, device)
        except UntrustedError as error:
            raise AgentError(
                f"{error.message}: say trust=pickle if you know who made it"
            ) from error
    symmetrizes = agent.is_equivariant and not agent.is_native
    family = FAMILIES[agent.architecture.algorithm]
    algorithm = class_of(family.equivariant if symmetrizes else family.stock)
    # SB3 warns of n_steps in whatever off-policy agent it loads.
    smallest = {} if family.is_on_policy else {"buffer_size": 1, "n_steps": 1}
    try:
        model: BaseAlgorithm = algorithm.load(agent.path, env=env, device=device, **smallest)
        return model
    except ValueError as error:
        message = " ".join(str(error).split())
        raise AgentError(f"{agent.path} does not fit this environment: {message}") from error
    except Exception as error:  # what a file says, or a class that it names, can fail in any way
        raise AgentError(f"{agent.path} cannot be loaded: {reason(error)}") from error


def environment_of(agent: SavedAgent, given: EnvConfig) -> EnvConfig:
    """The environment given, or else the one trained in, changed by the keys given.

    Raises:
        ConfigError: none is named, neither here nor in a run directory that the agent lies in.
    """
    if given.id is not None:
        return given
    trained_in = _trained_in(agent.path)
    keys = [key.removeprefix("env.") for key in given_keys() if key.startswith("env.")]
    changed = {key: getattr(given, key) for key in keys if hasattr(given, key)}
    return replace(trained_in, **{**changed, "kwargs": {**trained_in.kwargs, **given.kwargs}})


def _trained_in(path: Path) -> EnvConfig:
    """The environment named in the run directory that the agent lies in."""
    for folder in (path.parent, path.parent.parent):
        file = RunDirectory(folder).config
        if file.is_file():
            try:
                env: Any = OmegaConf.to_container(OmegaConf.load(file).env)
                taken_out(env)  # what a run of version 0.1 says of its algorithm
                saved = OmegaConf.merge(OmegaConf.structured(EnvConfig), env)
                return cast(EnvConfig, OmegaConf.to_object(saved))
            except Exception as error:  # YAML and OmegaConf have many ways of refusing
                raise ConfigError(f"{file} does not describe an environment: {error}") from error
    raise ConfigError(
        f"{path} is not in a run directory that names its environment: say env=NAME or env.id=ID"
    )
