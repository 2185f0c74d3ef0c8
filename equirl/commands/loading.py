"""From ``agent=PATH`` to the agent and the environment it was trained in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
from omegaconf import DictConfig, OmegaConf
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import SavedAgent
from equirl.configs.schema import EnvConfig
from equirl.errors import AgentError, ConfigError

TRUST = ("weights", "pickle")
"""How far an agent's file is trusted: to hold numbers and names, or to run what it likes."""


def with_agent(config: DictConfig) -> Any:
    """The configuration as its dataclass.

    Raises:
        ConfigError: no agent is named.
    """
    if OmegaConf.is_missing(config, "agent") or not config.agent:
        raise ConfigError("which agent? Say agent=PATH, the .zip of a trained agent")
    return OmegaConf.to_object(config)


def check_trust(trust: str) -> None:
    """Refuse what is no degree of trust.

    Raises:
        ConfigError: see above.
    """
    if trust not in TRUST:
        raise ConfigError(f"trust must be one of {', '.join(TRUST)}, got {trust!r}")


def load_model(
    agent: SavedAgent, env: gym.Env[Any, Any] | None, device: str, trust: str = "weights"
) -> DQN:
    """The saved agent as a model, of our own class or plain.

    Args:
        agent: what `read_agent` read.
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
        except AgentError as error:
            if "only its pickle holds" not in str(error):
                raise
            raise AgentError(f"{error}; or say trust=pickle if you know who made it") from error
    symmetrizes = agent.is_equivariant and not agent.is_native
    algorithm = EquivariantDQN if symmetrizes else DQN
    try:
        # SB3 warns of n_steps in whatever it loads.
        return algorithm.load(agent.path, env=env, device=device, buffer_size=1, n_steps=1)
    except ValueError as error:
        message = " ".join(str(error).split())
        raise AgentError(f"{agent.path} does not fit this environment: {message}") from error


def environment_of(agent: SavedAgent, given: EnvConfig) -> EnvConfig:
    """The environment given, or else the one trained in, but for what was given of it.

    Raises:
        ConfigError: none is named, neither here nor in a run directory that the agent lies in.
    """
    if given.id is not None:
        return given
    trained_in = _trained_in(agent.path)
    default = EnvConfig()
    changed = {key: new for key, new in vars(given).items() if new != getattr(default, key)}
    return replace(trained_in, **{**changed, "kwargs": {**trained_in.kwargs, **given.kwargs}})


def _trained_in(path: Path) -> EnvConfig:
    """The environment named in the run directory that the agent lies in."""
    for folder in (path.parent, path.parent.parent):
        file = folder / "config.yaml"
        if file.is_file():
            try:
                saved = OmegaConf.merge(OmegaConf.structured(EnvConfig), OmegaConf.load(file).env)
                return cast(EnvConfig, OmegaConf.to_object(saved))
            except Exception as error:  # YAML and OmegaConf have many ways of refusing
                raise ConfigError(f"{file} does not describe an environment: {error}") from error
    raise ConfigError(
        f"{path} lies in no run directory that names its environment: say env=NAME or env.id=ID"
    )
