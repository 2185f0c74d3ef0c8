"""Pictures of an agent at play: environments that draw them, and one episode as a GIF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from equirl.agents.training.evaluation import Player, play_episodes
from equirl.commands.environments import Environment, environment_maker
from equirl.configs.schema import EnvConfig
from equirl.errors import ConfigError
from equirl.runs.atomic_write import written_whole

MOST_FRAMES, WIDEST = 600, 320
"""Of a GIF: frames, and pixels."""

SLOWEST_GIF_MS = 20
"""Viewers show what is quicker than this at a tenth of the speed."""


def pictured(config: EnvConfig) -> Callable[[], Environment]:
    """How to make the environment so that it draws, which is tried at once.

    Raises:
        ConfigError: it draws no pictures, or what draws them is not installed.
    """
    make_env, _ = environment_maker(config, needs_symmetry=False)
    with make_env() as env:
        modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise ConfigError(
            f"video=true: {config.id} draws no pictures, it has the render modes "
            f"[{', '.join(map(str, modes))}]; it must take render_mode='rgb_array' and say so in "
            "its metadata"
        )
    make_drawing, _ = environment_maker(config, needs_symmetry=False, render_mode="rgb_array")
    try:
        with make_drawing() as env:
            env.reset(seed=0)
            picture = np.asarray(env.render())
    except gym.error.DependencyNotInstalled as error:
        raise ConfigError(
            'a video needs moviepy and the renderer: pip install "equirl[envs]"'
        ) from error
    if picture.ndim != 3:
        raise ConfigError(
            f"video=true: {config.id} must draw [height, width, 3], got {list(picture.shape)}"
        )
    return make_drawing


class _Filmed(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps a small picture of every state of an episode."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self.frames: list[Image.Image] = []

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env`."""
        result = super().reset(**arguments)
        self._shoot()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        result = super().step(action)
        self._shoot()
        return result

    def _shoot(self) -> None:
        if len(self.frames) < MOST_FRAMES:
            picture = Image.fromarray(np.asarray(self.env.render(), np.uint8))
            picture.thumbnail((WIDEST, WIDEST))
            self.frames.append(picture.quantize())


def write_gif(player: Player, make_env: Callable[[], Environment], seed: int, path: Path) -> None:
    """One greedy episode, its first 600 states at the most.

    Args:
        player: the agent.
        make_env: of `pictured`.
        seed: of the episode.
        path: the file to write.
    """
    env = _Filmed(make_env())
    fps = float(env.metadata.get("render_fps") or 30)
    play_episodes(player, lambda: env, [seed])
    first, *others = env.frames
    with written_whole(path) as aside:
        first.save(
            aside,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=max(SLOWEST_GIF_MS, round(1000 / fps)),
            loop=0,
        )
