"""What the keys of ``equirl train`` may say."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from equirl.agents.families import CONTRIB, FAMILIES
from equirl.commands.environments import check_device
from equirl.commands.training.extensions import check_loggers
from equirl.configs.algorithms import ALGORITHMS
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
    check_loggers(settings.loggers)
    _check_options(settings)


def check_algorithm(algorithm: str, method: str) -> None:
    """Refuse an algorithm that is not installed, or a method that it does not have.

    Raises:
        ConfigError: saying how to install it, or naming the methods that it has.
    """
    extra = ALGORITHMS[algorithm].INSTALL
    if extra is not None and importlib.util.find_spec(CONTRIB) is None:
        raise ConfigError(f'algorithm={algorithm} needs pip install "equirl[{extra}]"')
    methods = FAMILIES[algorithm].methods
    if method not in methods:
        raise ConfigError(
            f"algorithm={algorithm} does not have method={method}; it has {', '.join(methods)}"
        )


def needs_symmetry(settings: TrainConfig) -> bool:
    """Whether the training has to know the symmetry of its environment."""
    return settings.method.name != "plain" or bool(settings.eval.zero_shot)


def _check_options(settings: TrainConfig) -> None:
    """Refuse options that the algorithm or the method would silently not heed."""
    algorithm, name = settings.algorithm, settings.method.name
    check_algorithm(algorithm.name, name)
    given = {
        "compile": settings.compile,
        "bf16": settings.bf16,
        "device_replay": settings.device_replay,
        "pretrained": settings.pretrained is not None,
    }
    for option, is_given in given.items():
        if is_given and algorithm.name != "dqn":
            raise ConfigError(f"{option} is for algorithm=dqn, got algorithm={algorithm.name}")
    for option in ("compile", "bf16"):
        if getattr(settings, option) and name not in METHODS:
            raise ConfigError(
                f"{option} is for {', '.join(METHODS)}; {name} trains by SB3's own DQN"
            )
    if settings.normalize:
        given["eval.zero_shot"] = bool(settings.eval.zero_shot)
        for option in ("device_replay", "pretrained", "eval.zero_shot"):
            if given[option]:
                raise ConfigError(f"{option} does not go with normalize=true")
    if settings.device_replay and name == "augment":
        raise ConfigError("device_replay does not go with method=augment, which has its own buffer")
    ends_early = algorithm.name == "ppo" and getattr(algorithm, "target_kl", None) is not None
    if ends_early and name == "augment":
        raise ConfigError(
            "algorithm.target_kl does not go with method=augment: there the divergence is that of "
            "π(ga | gs) from π(a | s) too, which ends training where they differ: leave it out"
        )
    _check_numbers(algorithm)


def _check_numbers(algorithm: Any) -> None:
    """Refuse numbers that SB3 refuses in its own words, or that no training survives."""
    ent_coef = getattr(algorithm, "ent_coef", 0.0)
    if isinstance(ent_coef, str) and not _is_auto_or_number(ent_coef):
        start = ent_coef.removeprefix("auto_")  # of what is learned
        if start == ent_coef or not _is_number(start) or float(start) <= 0:
            raise ConfigError(
                "algorithm.ent_coef must be auto, auto_ and a number above 0, or a number, got "
                f"{ent_coef!r}"
            )
    target_entropy = getattr(algorithm, "target_entropy", "auto")
    if not _is_auto_or_number(target_entropy):
        raise ConfigError(
            f"algorithm.target_entropy must be auto or a number, got {target_entropy!r}"
        )
    if getattr(algorithm, "clip_range_vf", None) == 0:
        raise ConfigError("algorithm.clip_range_vf must be above 0; null is any distance")
    normalizes = getattr(algorithm, "normalize_advantage", False)
    if normalizes and algorithm.n_steps * algorithm.n_envs == 1:
        raise ConfigError(
            "algorithm.normalize_advantage needs rollouts of two steps or more, got "
            "algorithm.n_steps=1 and algorithm.n_envs=1: one advantage has no variance"
        )


def _is_auto_or_number(text: str) -> bool:
    return text == "auto" or _is_number(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
