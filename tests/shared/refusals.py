"""Commands to refuse."""

from __future__ import annotations

from collections.abc import Callable

TRAIN = ("train", "env=cartpole", "method=equitune", "total_timesteps=32", "run_dir=run")
SHORT = (
    *("algorithm=dqn", "algorithm.net_arch=[8]"),  # auto would compose everything once more
    *("eval.episodes=1", "eval.final_episodes=1", "progress=false"),
)

Refused = Callable[..., str]
