"""``equirl evaluate``: plays episodes with a saved agent."""

from __future__ import annotations

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
from equirl.agents.training.evaluation import greedy_actions, play_episodes
from equirl.agents.transfer import look_beforehand, own_seed
from equirl.commands.environments import check_device, environment_maker
from equirl.commands.filming import pictured
from equirl.commands.loading import environment_of, load_model, named_agent, with_agent
from equirl.configs.schema import EvaluateConfig
from equirl.envs import TransformWrapper
from equirl.errors import ConfigError
from equirl.runs.run_directory import RunDirectory
from equirl.symmetry import Symmetry
from equirl.verification.boards import LARGEST, Board, boards_of, shows_board
from equirl.verification.play import kept

STATES, RANDOM, BOARDS = 3000, 0.2, 3
"""Steps that the picture of α looks at, the share of random ones, and how many boards it has."""


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
        before = look_beforehand(
            agent, make_env, own_seed(settings.seed, settings.episodes), device=settings.device
        )
        if before.disagreement is not None:
            print(f"if equirl transfer made it equivariant: {before.disagreement}")
    if make_drawing is not None:
        folder = RunDirectory(agent.path.parent).videos
        print(f"video: {_record(model, make_drawing, folder, settings.seed)}")
    if settings.alpha:
        figure = RunDirectory(agent.path.parent).alpha_figure
        _draw_alpha(alpha_boards(model, make_env(), settings.seed), figure)
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
        is_relaxed = getattr(model.policy, "symmetry_args", {}).get("method") == "relaxed"
        needed = "a symmetry of more than e" if is_relaxed else "method=relaxed"
        raise ConfigError(f"alpha=true is for agents with {needed}: say alpha=false")
    if not shows_board(env.observation_space):
        raise ConfigError(
            f"alpha=true draws boards of at most {LARGEST} × {LARGEST} cells, got "
            f"{env.observation_space}: say alpha=false, and see equirl/alpha in TensorBoard"
        )


def alpha_boards(model: BaseAlgorithm, env: gym.Env[Any, Any], seed: int) -> list[list[Board]]:
    """The mean of α by the cell of whatever tells best where it is large, best first.

    The states are those of `STATES` steps, a fifth of them random, so that every cell is seen; an
    agent that is told which actions are allowed plays none at random.

    Returns:
        the boards of α, or where each action has an α of its own those of each action.

    Raises:
        ConfigError: no cell of the observations is ever marked by one of a few values.
    """
    observations = []
    rng = np.random.default_rng(seed)
    random = 0.0 if env.has_wrapper_attr("action_masks") else RANDOM
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    for _ in range(STATES):
        observations.append(kept(observation))
        action = greedy_actions(model, [observation], [env])[0]
        action = env.action_space.sample() if rng.random() < random else action
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
    batch, weights = np.array(observations), np.ones(STATES)
    alpha = alphas(model, model.policy.obs_to_tensor(batch)[0])
    assert alpha is not None
    if alpha.dim() == 2 and (alpha == alpha[:, :1]).all():  # one is of all actions
        alpha = alpha[:, 0]
    found = [
        boards_of(env.observation_space, batch, one, weights, stands_out=-np.inf)[:BOARDS]
        for one in alpha.view(STATES, -1).numpy(force=True).T
    ]
    if not found[0]:
        raise ConfigError(
            f"alpha=true draws boards, on which few values mark a cell, got {env.observation_space}"
            " with many: say alpha=false, and see equirl/alpha in TensorBoard"
        )
    return found


def _draw_alpha(of_actions: list[list[Board]], path: Path) -> None:
    """Draw a row of pictures, or where each action has an α of its own a row for each."""
    across, down = len(of_actions[0]), len(of_actions)
    figure = Figure(figsize=(1 + 2.6 * across, 0.4 + 2.9 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for action, (row, boards) in enumerate(zip(grid, of_actions, strict=True)):
        for axes, board in zip(row, boards, strict=True):
            drawn = axes.imshow(board.shares, vmin=0, vmax=1, cmap="viridis")
            of = f"action {action}, " if down > 1 else ""
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{of}by the cell with {board.what}", fontsize=8)
    figure.suptitle("mean of α, by what in an observation tells it best", fontsize=9)
    figure.colorbar(drawn, ax=grid)
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
