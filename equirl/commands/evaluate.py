"""``equirl evaluate``: plays episodes with a saved agent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from equirl.agents.equivariance_metrics import alphas
from equirl.agents.training.evaluation import play_episodes
from equirl.agents.transfer import OWN_STEPS, look_beforehand
from equirl.commands.environments import check_device, environment_maker
from equirl.commands.filming import pictured
from equirl.commands.loading import environment_of, load_model, named_agent, with_agent
from equirl.configs.schema import EvaluateConfig
from equirl.envs import TransformWrapper
from equirl.envs.boards.board_rendering import RenderedBoard
from equirl.errors import ConfigError
from equirl.runs.run_directory import RunDirectory
from equirl.symmetry import Symmetry

STATES, RANDOM = 3000, 0.2
"""Steps that the picture of α looks at, and the share of random ones."""


def evaluate(config: DictConfig) -> float:
    """Evaluate as configured; returns the mean return (``transform=all``: of the identity)."""
    settings = cast(EvaluateConfig, with_agent(config))
    check_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    agent = named_agent(settings)
    environment = environment_of(agent, settings.env)
    make_env, symmetry = environment_maker(environment, needs_symmetry=settings.transform != "e")
    make_drawing = pictured(environment) if settings.video else None
    model = load_model(agent, make_env(), settings.device, settings.trust)
    elements = _elements(settings.transform, symmetry)

    if settings.alpha:
        _check_alpha(model, make_env())
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
    if settings.transform == "all" and not agent.is_equivariant:
        before = look_beforehand(agent, make_env, settings.seed - OWN_STEPS, device=settings.device)
        if before.disagreement is not None:
            print(f"made equivariant: {before.disagreement}")
    if make_drawing is not None:
        folder = RunDirectory(agent.path.parent).videos
        print(f"video: {_record(model, make_drawing, folder, settings.seed)}")
    if settings.alpha:
        figure = RunDirectory(agent.path.parent).alpha_figure
        _draw_alpha(model, make_env(), figure, settings.seed)
        print(f"alpha: {figure}")
    return means[0]


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


def _check_alpha(model: BaseAlgorithm, env: gym.Env[Any, Any]) -> None:
    space = model.observation_space
    if alphas(model, model.policy.obs_to_tensor(space.sample())[0]) is None:
        raise ConfigError("alpha=true is for agents with method=relaxed: say alpha=false")
    if not isinstance(env.unwrapped, RenderedBoard):
        raise ConfigError(
            f"alpha=true draws the boards of equirl.envs, got {type(env.unwrapped).__name__}: say "
            "alpha=false, and see equirl/alpha in TensorBoard"
        )


def _draw_alpha(model: BaseAlgorithm, env: gym.Env[Any, Any], path: Path, seed: int) -> None:
    """A picture of the mean of α over the states with the agent in each cell of a board.

    The states are those of `STATES` steps, a fifth of them random, so that every cell is seen.
    Where each action has an α of its own, each has a picture.
    """
    board = cast(RenderedBoard, env.unwrapped)
    seen: dict[Any, list[Any]] = defaultdict(list)
    rng = np.random.default_rng(seed)
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    for _ in range(STATES):
        alpha = alphas(model, model.policy.obs_to_tensor(observation)[0])
        assert alpha is not None
        seen[board.place].append(alpha.view(-1).tolist())
        greedy, _ = model.predict(observation, deterministic=True)
        action = env.action_space.sample() if rng.random() < RANDOM else greedy
        observation, _, terminated, truncated, _ = env.step(np.int64(action))
        if terminated or truncated:
            observation, _ = env.reset()
    pictures = len(next(iter(seen.values()))[0])
    shown = np.full((board.size, board.size, pictures), np.nan)
    for place, values in seen.items():
        shown[place] = np.mean(values, axis=0)
    figure = Figure(figsize=(1 + 3 * pictures, 3.2), layout="constrained")
    row = figure.subplots(1, pictures, squeeze=False)[0]
    for action, axes in enumerate(row):
        drawn = axes.imshow(shown[..., action], vmin=0, vmax=1, cmap="viridis")
        axes.set(xticks=[], yticks=[], title=f"action {action}" if pictures > 1 else "")
    figure.suptitle("mean of α, by the cell of the agent", fontsize=10)
    figure.colorbar(drawn, ax=row)
    figure.savefig(path, dpi=120)


def _record(
    model: BaseAlgorithm, make_env: Callable[[], gym.Env[Any, Any]], folder: Path, seed: int
) -> Path:
    try:
        env = gym.wrappers.RecordVideo(make_env(), str(folder), name_prefix=f"seed{seed}")
        play_episodes(model, lambda: env, [seed])
    except gym.error.DependencyNotInstalled as error:
        raise ConfigError('a video needs moviepy: pip install "equirl[envs]"') from error
    return folder / f"seed{seed}-episode-0.mp4"
