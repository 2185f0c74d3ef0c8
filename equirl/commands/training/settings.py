"""What the keys of ``equirl train`` may say."""

from __future__ import annotations

from math import inf
from operator import attrgetter
from typing import get_args

from equirl.agents.dqn.policies import CanonicalScore
from equirl.commands.environments import check_device
from equirl.commands.mistakes import nearest
from equirl.configs.schema import MethodConfig, TrainConfig
from equirl.errors import ConfigError
from equirl.symmetrize.symmetrized import Gradient, Init, Method

CHOICES = {
    "check": ("auto", "off"),
    "env.policy": ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"),
    "method.name": ("plain", "augment", "mirror_loss", "native", *get_args(Method)),
    "method.gradient": get_args(Gradient),
    "method.init": get_args(Init),
    "method.canonical_score": get_args(CanonicalScore),
}
"""What a key may say."""

ZERO_SHOT = ("equitune", "equizero", "canonical")
"""Methods that have nothing to learn."""

LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "total_timesteps": (1, inf),
    "checkpoint_every": (0, inf),
    "threads": (1, inf),
    "eval.every": (1, inf),
    "eval.episodes": (1, inf),
    "eval.final_episodes": (1, inf),
    "method.orbit_samples": (1, inf),
    "method.mirror_weight": (0, 1e9),
    "env.n_envs": (1, inf),
    "env.frame_stack": (1, inf),
    "env.net_arch": (1, inf),
    "env.dqn.learning_rate": (0, 1e9),
    "env.dqn.learning_rate_final": (0, 1e9),
    "env.dqn.buffer_size": (1, inf),
    "env.dqn.learning_starts": (0, inf),
    "env.dqn.batch_size": (1, inf),
    "env.dqn.tau": (0, 1),
    "env.dqn.gamma": (0, 1),
    "env.dqn.train_freq": (1, inf),
    "env.dqn.gradient_steps": (-1, inf),
    "env.dqn.n_steps": (1, inf),
    "env.dqn.target_update_interval": (1, inf),
    "env.dqn.exploration_fraction": (0, 1),
    "env.dqn.exploration_initial_eps": (0, 1),
    "env.dqn.exploration_final_eps": (0, 1),
    "env.dqn.max_grad_norm": (0, inf),
}
"""The least and the most that a number, or each number of a list, may be."""


def check_settings(settings: TrainConfig) -> None:
    """Refuse values that mean nothing, before anything is made.

    Raises:
        ConfigError: naming the key, what it says and what it may say.
    """
    check_device(settings.device)
    for key, choices in CHOICES.items():
        value = attrgetter(key)(settings)
        if value not in choices:
            raise ConfigError(
                f"{key} must be one of {', '.join(choices)}, got {value!r}{nearest(value, choices)}"
            )
    _check_options(settings)
    for key, (least, most) in LIMITS.items():
        value = attrgetter(key)(settings)
        for number in value if isinstance(value, list) else [] if value is None else [value]:
            if not least <= number <= most:
                bounds = f"at least {least}" if most == inf else f"between {least} and {most}"
                raise ConfigError(f"{key} must be {bounds}, got {number}")


def needs_symmetry(settings: TrainConfig) -> bool:
    """Whether the training has to know the symmetry of its environment."""
    return settings.method.name != "plain" or bool(settings.eval.zero_shot)


def _check_options(settings: TrainConfig) -> None:
    """Refuse options that the method would silently not heed."""
    name = settings.method.name
    if settings.method.orbit_samples is not None and name != "equitune":
        raise ConfigError(f"method.orbit_samples is for method=equitune, got method={name}")
    if settings.method.match_parameters and name != "native":
        raise ConfigError(f"method.match_parameters is for method=native, got method={name}")
    if settings.method.mirror_weight != MethodConfig.mirror_weight and name != "mirror_loss":
        raise ConfigError(f"method.mirror_weight is for method=mirror_loss, got method={name}")
    for option in ("compile", "bf16"):
        if getattr(settings, option) and name not in get_args(Method):
            raise ConfigError(
                f"{option} is for {', '.join(get_args(Method))}; {name} trains by SB3's own DQN"
            )
    for method in settings.eval.zero_shot:
        if method not in ZERO_SHOT:
            raise ConfigError(
                f"eval.zero_shot must be of {', '.join(ZERO_SHOT)}, got {method!r}"
                f"{nearest(method, ZERO_SHOT)}"
            )
    if settings.device_replay and name == "augment":
        raise ConfigError("device_replay does not go with method=augment, which has its own buffer")
