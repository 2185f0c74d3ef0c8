"""``equirl evaluate``: plays episodes with a saved agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from stable_baselines3 import DQN
from tqdm import tqdm

from equirl.agents import EquivariantDQN
from equirl.agents.evaluation import play_episodes
from equirl.agents.saved_agent import SavedAgent, read_agent
from equirl.commands.environments import check_device, environment_maker
from equirl.configs.schema import EnvConfig, EvaluateConfig
from equirl.envs import TransformWrapper
from equirl.errors import AgentError, ConfigError
from equirl.symmetry import Symmetry


def evaluate(config: DictConfig) -> float:
    """Evaluate as configured; returns the mean return (``transform=all``: of the identity)."""
    settings = cast(EvaluateConfig, _to_object(config, "agent=PATH, the .zip of a trained agent"))
    if settings.episodes < 1:
        raise ConfigError(f"episodes must be at least 1, got {settings.episodes}")
    check_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    agent = read_agent(settings.agent)
    environment = settings.env
    if environment.id is None:
        environment = _completed(environment, _trained_in(agent.path))
    make_env, symmetry = environment_maker(environment, needs_symmetry=settings.transform != "e")
    model = load_model(agent, make_env(), settings.device)
    elements = _elements(settings.transform, symmetry)

    table = Table("through", "return", title=f"{agent.path} on {environment.id}")
    means = []
    with tqdm(
        total=settings.episodes * len(elements), unit="episode", disable=not settings.progress
    ) as bar:
        for name in elements:
            episodes = play_episodes(
                model,
                partial(_seen_through, make_env, name, symmetry),
                range(settings.seed, settings.seed + settings.episodes),
                bar.update,
            )
            means.append(episodes.mean)
            table.add_row(name, str(episodes))
    Console(highlight=False).print(table)
    if settings.video:
        print(f"video: {_record(model, environment, agent.path.parent / 'videos', settings.seed)}")
    return means[0]


def load_model(agent: SavedAgent, env: gym.Env[Any, Any], device: str) -> DQN:
    """The saved agent as a model, of our own class or plain.

    Raises:
        AgentError: it was made for other spaces, or cannot be read.
    """
    if not agent.is_equivariant:
        return agent.build(DQN, env, device=device, buffer_size=1)
    try:
        return EquivariantDQN.load(agent.path, env=env, device=device, buffer_size=1)
    except ValueError as error:
        message = " ".join(str(error).split())
        raise AgentError(f"{agent.path} does not fit this environment: {message}") from error


def _to_object(config: DictConfig, missing: str) -> Any:
    """The configuration as its dataclass; a key that must be given and is not, is asked for."""
    if OmegaConf.is_missing(config, "agent") or not config.agent:
        raise ConfigError(f"which agent? Say {missing}")
    return OmegaConf.to_object(config)


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


def _completed(given: EnvConfig, trained_in: EnvConfig) -> EnvConfig:
    """The environment trained in, but for what was given on the command line."""
    default = EnvConfig()
    changed = {key: new for key, new in vars(given).items() if new != getattr(default, key)}
    return replace(trained_in, **{**changed, "kwargs": {**trained_in.kwargs, **given.kwargs}})


def _elements(transform: str, symmetry: Symmetry | None) -> list[str]:
    if symmetry is None:
        return ["e"]
    names = symmetry.group.names
    if transform == "all":
        return list(names)
    if transform not in names:
        raise ConfigError(f"no element {transform!r}: transform=all, or one of {', '.join(names)}")
    return [transform]


def _seen_through(
    make_env: Callable[[], gym.Env[Any, Any]], name: str, symmetry: Symmetry | None
) -> gym.Env[Any, Any]:
    env = make_env()
    return env if symmetry is None or name == "e" else TransformWrapper(env, name, symmetry)


def _record(model: DQN, environment: EnvConfig, folder: Path, seed: int) -> Path:
    make_env, _ = environment_maker(environment, needs_symmetry=False, render_mode="rgb_array")
    try:
        env = gym.wrappers.RecordVideo(make_env(), str(folder), name_prefix=f"seed{seed}")
        play_episodes(model, lambda: env, [seed])
    except gym.error.DependencyNotInstalled as error:
        raise ConfigError(
            "a video needs moviepy and the renderer: pip install equirl[envs]"
        ) from error
    return folder / f"seed{seed}-episode-0.mp4"
