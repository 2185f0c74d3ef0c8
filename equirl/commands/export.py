"""``equirl export``: the greedy policy as one file, for a machine without training code."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from equirl.agents.saving.export import check_export, export_policy
from equirl.agents.saving.hub import PREFIX, local_agent, push_agent
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.commands.composition import given_keys
from equirl.commands.environments import Environment, environment_maker
from equirl.commands.loading import environment_of, load_model, named_agent, with_agent
from equirl.configs.schema import EnvConfig, ExportConfig
from equirl.errors import ConfigError


def export(config: DictConfig) -> Path:
    """Export as configured; returns the file, or the agent's own where that was pushed."""
    if OmegaConf.is_missing(config, "output") or not config.output:
        raise ConfigError("where to? Say output=PATH, such as output=policy.onnx")
    settings = cast(ExportConfig, with_agent(config))
    if settings.output.startswith(PREFIX):
        return _push(settings)
    output = Path(settings.output)
    check_export(output, settings.format)
    agent = named_agent(settings)
    env = _environment(agent, settings.env, settings.trust)
    model = load_model(agent, env, "cpu", settings.trust)
    space = None if env is None else env.observation_space
    export_policy(model, output, settings.format, space)
    print(f"exported: {output} ({output.stat().st_size / 1000:,.0f} kB)")
    return output


def _push(settings: ExportConfig) -> Path:
    """The agent's own file, to the Hub."""
    for key in ("format", "env.id", "env", "trust"):
        if key in given_keys():
            raise ConfigError(f"{key} is for files, not for output={settings.output}")
    agent = read_agent(local_agent(settings.agent))  # which refuses what is not an agent
    print(f"pushed: {push_agent(agent.path, settings.output)}")
    return agent.path


def _environment(agent: SavedAgent, given: EnvConfig, trust: str) -> Environment | None:
    """The environment, where one is named or the agent does not say enough about itself."""
    tells_all = trust == "pickle" or agent.symmetry is not None
    if given.id is None and tells_all:
        return None
    make_env, _ = environment_maker(
        environment_of(agent, given), needs_symmetry=agent.is_equivariant and not tells_all
    )
    return make_env()
