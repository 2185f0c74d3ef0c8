"""`equirl train`, cut short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

SHORT = (
    "progress=false",
    "algorithm=dqn",  # which auto would compose the configuration once more to find
    "algorithm.net_arch=[8]",
    "algorithm.learning_starts=50",
    "algorithm.train_freq=16",
    "algorithm.gradient_steps=1",
    "eval.episodes=2",
    "eval.final_episodes=3",
)


def train(equirl_command: Callable[..., Any], folder: Path, *arguments: str) -> Any:
    outcome = equirl_command("train", *SHORT, f"run_dir={folder}", *arguments)
    assert outcome.code == 0, outcome.err
    return outcome
