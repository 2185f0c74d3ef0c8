"""The keys of each algorithm: SB3's names, meanings and defaults, and how it is run.

A further algorithm is a dataclass here, a file in ``configs/algorithm/``, and a builder in
`equirl.commands.training.model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Optional

from equirl.configs.fields import key

# OmegaConf reads these annotations at run time and wants Optional spelled out.
# ruff: noqa: UP045


@dataclass
class AlgorithmConfig:
    """What every algorithm has: its network, its environments, its length."""

    ACTIONS: ClassVar[tuple[str, ...]] = ()
    """The kinds of action space that it takes, by the names of Gymnasium's classes."""

    name: str = key("", "the algorithm")
    policy: str = key(
        "MlpPolicy",
        "MlpPolicy, CnnPolicy or MultiInputPolicy",
        choices=("MlpPolicy", "CnnPolicy", "MultiInputPolicy"),
    )
    features: Optional[str] = key(None, "module:class of a features extractor; null is SB3's")
    net_arch: Optional[list[int]] = key(
        None, "widths of the hidden layers; null is SB3's default", least=1
    )
    n_envs: int = key(1, "environments that are played at once", least=1)
    subprocess: bool = key(False, "each of them in a process of its own")
    total_timesteps: int = key(100_000, "environment steps, where total_timesteps= is not given")


@dataclass
class DQNConfig(AlgorithmConfig):
    """DQN (arXiv 1312.5602)."""

    ACTIONS: ClassVar[tuple[str, ...]] = ("Discrete",)

    name: str = key("dqn", "the algorithm")
    learning_rate: float = key(1e-4, "of Adam", least=0, most=1e9)
    learning_rate_final: Optional[float] = key(
        None, "where it falls to, linearly; null keeps it", least=0, most=1e9
    )
    buffer_size: int = key(100_000, "transitions that the replay buffer holds", least=1)
    learning_starts: int = key(100, "environment steps before the first gradient step", least=0)
    batch_size: int = key(32, "transitions in one gradient step", least=1)
    tau: float = key(1.0, "how far the target network moves, 1 is all the way", least=0, most=1)
    gamma: float = key(0.99, "discount factor", least=0, most=1)
    train_freq: int = key(4, "environment steps between two rounds of training", least=1)
    gradient_steps: int = key(
        1, "gradient steps in one round; -1 is as many as environment steps", least=-1
    )
    n_steps: int = key(1, "steps of the returns that it learns from", least=1)
    target_update_interval: int = key(
        10_000, "environment steps between two updates of the target network", least=1
    )
    exploration_fraction: float = key(
        0.1, "part of the training over which epsilon falls", least=0, most=1
    )
    exploration_initial_eps: float = key(1.0, "epsilon at the start", least=0, most=1)
    exploration_final_eps: float = key(0.05, "epsilon at the end", least=0, most=1)
    max_grad_norm: float = key(10.0, "longest gradient", least=0)
    double_q: bool = key(False, "the target of Double DQN")


ALGORITHMS: dict[str, type[Any]] = {"dqn": DQNConfig}
"""By the name that ``algorithm=`` takes."""

DEFAULT = {"Discrete": "dqn", "Box": "sac", "MultiDiscrete": "ppo", "MultiBinary": "ppo"}
"""Which algorithm ``algorithm=auto`` is, by the kind of action space."""

AUTO = "auto"
"""The name that stands for one of `DEFAULT`."""


def takers(actions: str) -> list[str]:
    """The algorithms that take actions of this kind."""
    return [name for name, schema in ALGORITHMS.items() if actions in schema.ACTIONS]
