"""What the keys of ``equirl train`` may say."""

from __future__ import annotations

import math

from equirl.commands.environments import check_device
from equirl.commands.training.families import check_method
from equirl.configs.fields import check_values
from equirl.configs.schema import TrainConfig
from equirl.errors import ConfigError
from equirl.symmetrize import METHODS


def check_settings(settings: TrainConfig) -> None:
    """Refuse values that mean nothing, before anything is made.

    Raises:
        ConfigError: naming the key, what it says and what it may say.
    """
    check_device(settings.device)
    check_values(settings)
    _check_options(settings)


def needs_symmetry(settings: TrainConfig) -> bool:
    """Whether the training has to know the symmetry of its environment."""
    return settings.method.name != "plain" or bool(settings.eval.zero_shot)


def _check_options(settings: TrainConfig) -> None:
    """Refuse options that the algorithm or the method would silently not heed."""
    algorithm, name = settings.algorithm, settings.method.name
    check_method(algorithm.name, name)
    given = {
        "compile": settings.compile,
        "bf16": settings.bf16,
        "device_replay": settings.device_replay,
        "pretrained": settings.pretrained is not None,
        "eval.zero_shot": bool(settings.eval.zero_shot),
    }
    for option, is_given in given.items():
        if is_given and algorithm.name != "dqn":
            raise ConfigError(f"{option} is for algorithm=dqn, got algorithm={algorithm.name}")
    for option in ("compile", "bf16"):
        if getattr(settings, option) and name not in METHODS:
            raise ConfigError(
                f"{option} is for {', '.join(METHODS)}; {name} trains by SB3's own DQN"
            )
    if settings.device_replay and name == "augment":
        raise ConfigError("device_replay does not go with method=augment, which has its own buffer")
    for key in ("ent_coef", "target_entropy"):
        value = getattr(algorithm, key, 0.0)
        if isinstance(value, str) and not _is_auto_or_number(value):
            raise ConfigError(f"algorithm.{key} must be auto or a number, got {value!r}")


def _is_auto_or_number(text: str) -> bool:
    number = text.removeprefix("auto_") if text != "auto" else "0"
    try:
        return math.isfinite(float(number))
    except ValueError:
        return False
