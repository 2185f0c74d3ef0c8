"""Commands to refuse."""

from __future__ import annotations

from collections.abc import Callable

TRAIN = ("train", "env=cartpole", "method=equitune", "total_timesteps=32", "run_dir=run")
SHORT = ("eval.episodes=1", "eval.final_episodes=1", "algorithm.net_arch=[8]", "progress=false")

Refused = Callable[..., str]
