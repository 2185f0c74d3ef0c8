"""What the keys of ``equirl train`` may say."""

from __future__ import annotations

from equirl.commands.environments import check_device
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
    """Refuse options that the method would silently not heed."""
    name = settings.method.name
    for option in ("compile", "bf16"):
        if getattr(settings, option) and name not in METHODS:
            raise ConfigError(
                f"{option} is for {', '.join(METHODS)}; {name} trains by SB3's own DQN"
            )
    if settings.device_replay and name == "augment":
        raise ConfigError("device_replay does not go with method=augment, which has its own buffer")
