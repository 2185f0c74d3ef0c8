"""The keys of each algorithm: SB3's names, meanings and defaults, and how it is run.

A further algorithm is a dataclass here, a file in ``configs/algorithm/``, and a row of the table in
`equirl.agents.families`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Optional

from equirl.configs.fields import changed, key

# OmegaConf reads these annotations at run time and wants Optional spelled out.
# ruff: noqa: UP045


DISCRETE, CONTINUOUS = ("Discrete",), ("Box",)
ANY = ("Discrete", "Box", "MultiDiscrete", "MultiBinary")


def _learning_rate(default: float, optimiser: str = "Adam") -> Any:
    return key(default, f"of {optimiser}", least=0, most=1e9)


def _final(what: str) -> Any:
    return key(None, f"where {what} falls to, linearly; null keeps it", least=0, most=1e9)


@dataclass
class AlgorithmConfig:
    """What every algorithm has: its network, its environments, its length."""

    ACTIONS: ClassVar[tuple[str, ...]] = ()
    """The kinds of action space that it takes, by the names of Gymnasium's classes."""

    INSTALL: ClassVar[Optional[str]] = None
    """The extra of equirl that brings it."""

    name: str = key("", "the algorithm")
    policy: str = key(
        "MlpPolicy",
        "MlpPolicy, CnnPolicy for images; a Dict always has MultiInputPolicy",
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
class OffPolicyConfig(AlgorithmConfig):
    """What the algorithms with a replay buffer share."""

    learning_rate: float = _learning_rate(3e-4)
    learning_rate_final: Optional[float] = _final("it")
    buffer_size: int = key(1_000_000, "transitions that the replay buffer holds", least=1)
    learning_starts: int = key(100, "environment steps before the first gradient step", least=0)
    batch_size: int = key(256, "transitions in one gradient step", least=1)
    tau: float = key(0.005, "how far the target networks move, 1 is all the way", least=0, most=1)
    gamma: float = key(0.99, "discount factor", least=0, most=1)
    train_freq: int = key(1, "environment steps between two rounds of training", least=1)
    gradient_steps: int = key(
        1, "gradient steps in one round; -1 is as many as environment steps", least=-1
    )
    n_steps: int = key(1, "steps of the returns that it learns from", least=1)


@dataclass
class ValueBasedConfig(OffPolicyConfig):
    """What DQN and QR-DQN share."""

    ACTIONS: ClassVar[tuple[str, ...]] = DISCRETE

    batch_size: int = changed(OffPolicyConfig, "batch_size", 32)
    tau: float = changed(OffPolicyConfig, "tau", 1.0)
    train_freq: int = changed(OffPolicyConfig, "train_freq", 4)
    target_update_interval: int = key(
        10_000, "environment steps between two updates of the target network", least=1
    )
    exploration_fraction: float = key(
        0.1, "part of the training over which epsilon falls", least=0, most=1
    )
    exploration_initial_eps: float = key(1.0, "epsilon at the start", least=0, most=1)
    exploration_final_eps: float = key(0.05, "epsilon at the end", least=0, most=1)


@dataclass
class DQNConfig(ValueBasedConfig):
    """DQN (arXiv 1312.5602)."""

    name: str = key("dqn", "the algorithm")
    learning_rate: float = _learning_rate(1e-4)
    buffer_size: int = changed(OffPolicyConfig, "buffer_size", 100_000)
    max_grad_norm: float = key(10.0, "longest gradient", least=0)
    double_q: bool = key(False, "the target of Double DQN")


@dataclass
class OnPolicyConfig(AlgorithmConfig):
    """What PPO and A2C share."""

    ACTIONS: ClassVar[tuple[str, ...]] = ANY

    learning_rate: float = _learning_rate(3e-4)
    learning_rate_final: Optional[float] = _final("it")
    n_steps: int = key(2048, "steps of each environment in one rollout", least=1)
    gamma: float = key(0.99, "discount factor", least=0, most=1)
    gae_lambda: float = key(
        0.95, "of generalised advantage estimation (arXiv 1506.02438)", least=0, most=1
    )
    ent_coef: float = key(0.0, "of the entropy in the loss", least=0, most=1e9)
    vf_coef: float = key(0.5, "of the value's error in the loss", least=0, most=1e9)
    max_grad_norm: float = key(0.5, "longest gradient", least=0)
    normalize_advantage: bool = key(True, "to mean 0 and variance 1 in every batch")


@dataclass
class PPOConfig(OnPolicyConfig):
    """PPO (arXiv 1707.06347)."""

    name: str = key("ppo", "the algorithm")
    batch_size: int = key(64, "transitions in one gradient step", least=2)
    n_epochs: int = key(10, "times that a rollout is gone through", least=1)
    clip_range: float = key(0.2, "how far the ratio of probabilities may leave 1", least=0)
    clip_range_final: Optional[float] = _final("clip_range")
    clip_range_vf: Optional[float] = key(
        None, "how far a value may move; null is any distance", least=0
    )
    target_kl: Optional[float] = key(
        None, "an update ends at this divergence from the old policy; null: never", least=0
    )


@dataclass
class A2CConfig(OnPolicyConfig):
    """A2C (arXiv 1602.01783)."""

    name: str = key("a2c", "the algorithm")
    learning_rate: float = _learning_rate(7e-4, "RMSprop, or of Adam")
    n_steps: int = changed(OnPolicyConfig, "n_steps", 5)
    gae_lambda: float = changed(OnPolicyConfig, "gae_lambda", 1.0)
    normalize_advantage: bool = changed(OnPolicyConfig, "normalize_advantage", False)
    use_rms_prop: bool = key(True, "RMSprop, not Adam")
    rms_prop_eps: float = key(1e-5, "added in RMSprop's denominator", least=0)


@dataclass
class ContinuousConfig(OffPolicyConfig):
    """What the off-policy algorithms for continuous actions share."""

    ACTIONS: ClassVar[tuple[str, ...]] = CONTINUOUS

    noise_std: float = key(
        0.0, "of Gaussian noise on every action in training, in units of half the box", least=0
    )


@dataclass
class SACConfig(ContinuousConfig):
    """SAC (arXiv 1812.05905)."""

    name: str = key("sac", "the algorithm")
    ent_coef: str = key("auto", "of the entropy: auto or auto_0.1 is learned; or a number")
    target_entropy: str = key("auto", "where ent_coef is learned; auto is minus the actions")
    target_update_interval: int = key(
        1, "gradient steps between two updates of the target networks", least=1
    )


@dataclass
class TQCConfig(SACConfig):
    """TQC (arXiv 2005.04269)."""

    INSTALL: ClassVar[Optional[str]] = "contrib"

    name: str = key("tqc", "the algorithm")
    top_quantiles_to_drop_per_net: int = key(
        2, "largest of the 25 quantiles of each critic that are left out", least=0, most=24
    )


@dataclass
class DDPGConfig(ContinuousConfig):
    """DDPG (arXiv 1509.02971)."""

    name: str = key("ddpg", "the algorithm")
    learning_rate: float = _learning_rate(1e-3)


@dataclass
class TD3Config(DDPGConfig):
    """TD3 (arXiv 1802.09477)."""

    name: str = key("td3", "the algorithm")
    policy_delay: int = key(2, "gradient steps of the critics for one of the actor", least=1)
    target_policy_noise: float = key(0.2, "standard deviation of noise on target actions", least=0)
    target_noise_clip: float = key(0.5, "largest noise on target actions", least=0)


@dataclass
class QRDQNConfig(ValueBasedConfig):
    """QR-DQN (arXiv 1710.10044)."""

    INSTALL: ClassVar[Optional[str]] = "contrib"

    name: str = key("qrdqn", "the algorithm")
    learning_rate: float = _learning_rate(5e-5)
    exploration_fraction: float = changed(ValueBasedConfig, "exploration_fraction", 0.005)
    exploration_final_eps: float = changed(ValueBasedConfig, "exploration_final_eps", 0.01)
    max_grad_norm: Optional[float] = key(None, "longest gradient; null is any length", least=0)
    n_quantiles: int = key(200, "of the distribution of each return", least=1)


ALGORITHMS: dict[str, type[Any]] = {
    "dqn": DQNConfig,
    "ppo": PPOConfig,
    "a2c": A2CConfig,
    "sac": SACConfig,
    "td3": TD3Config,
    "ddpg": DDPGConfig,
    "qrdqn": QRDQNConfig,
    "tqc": TQCConfig,
}
"""By the name that ``algorithm=`` takes."""

DEFAULT = {"Discrete": "dqn", "Box": "sac", "MultiDiscrete": "ppo", "MultiBinary": "ppo"}
"""Which algorithm ``algorithm=auto`` is, by the kind of action space."""

AUTO = "auto"
"""The name that stands for one of `DEFAULT`."""


def takers(actions: str) -> list[str]:
    """The algorithms that take actions of this kind."""
    return [name for name, schema in ALGORITHMS.items() if actions in schema.ACTIONS]


GSDE = ("use_sde", "sde_sample_freq", "use_sde_at_warmup")
"""SB3's arguments for gSDE exploration (arXiv 2005.05719), which is refused."""
