"""Keys that have moved since version 0.1: where they stood, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equirl.configs.methods import METHODS
from equirl.errors import ConfigError

MOVED = {
    "env.dqn": "algorithm",
    "env.policy": "algorithm.policy",
    "env.features": "algorithm.features",
    "env.net_arch": "algorithm.net_arch",
    "env.n_envs": "algorithm.n_envs",
    "env.subprocess": "algorithm.subprocess",
    "env.total_timesteps": "algorithm.total_timesteps",
}
"""The old key, and the new one; what stands below it has moved with it."""


def new_name(key: str) -> str:
    """The key as it is called now.

    Example:
        >>> new_name("env.dqn.gamma"), new_name("env.id")
        ('algorithm.gamma', 'env.id')
    """
    for old, new in MOVED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def with_new_names(overrides: Sequence[str], heeded: bool) -> tuple[list[str], list[str]]:
    """Arguments with the new names of their keys, and a line for each that had an old one.

    Args:
        overrides: the arguments.
        heeded: whether the command has an algorithm; if not, such keys said nothing to it before,
            and are left out.

    Raises:
        ConfigError: a key of DQN's stands beside another algorithm.
    """
    renamed, notes = [], []
    given = dict(override.partition("=")[::2] for override in overrides)
    algorithm = given.get("algorithm", "dqn")
    for override in overrides:
        key, equals, value = override.partition("=")
        plus = key[: len(key) - len(key.lstrip("+~"))]
        old, new = key.lstrip("+~"), new_name(key.lstrip("+~"))
        if old != new:
            if old.startswith("env.dqn") and algorithm not in ("dqn", "auto"):
                raise ConfigError(f"{old} is for algorithm=dqn, got algorithm={algorithm}")
            notes.append(f"{old} is called {new} now" + ("" if heeded else ", and not heeded here"))
            if not heeded:
                continue
        renamed.append(f"{plus}{new}{equals}{value}")
    return renamed, notes


def is_old(saved: Any) -> bool:
    """Whether a run's configuration has keys where version 0.1 had them."""
    env = saved.get("env") if isinstance(saved, dict) else None
    return isinstance(env, dict) and any(old.partition(".")[2] in env for old in MOVED)


def taken_out(env: dict[str, Any]) -> dict[str, Any]:
    """Remove the old keys from an environment's configuration; returns what the algorithm gets."""
    learning: dict[str, Any] = {}
    for old, new in MOVED.items():
        value = env.pop(old.partition(".")[2], None)
        if value is None:
            continue
        if new == "algorithm":
            learning |= value
        else:
            learning[new.partition(".")[2]] = value
    return learning


def modernised(saved: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run of version 0.1, in the keys of today.

    Options that its method did not heed are left out: every method had those of all.
    """
    env = dict(saved["env"])
    algorithm = {"name": "dqn", **taken_out(env)}
    method = saved.get("method")
    if isinstance(method, dict) and method.get("name") in METHODS:
        heeded = METHODS[method["name"]].__dataclass_fields__
        others = {name for schema in METHODS.values() for name in schema.__dataclass_fields__}
        method = {k: v for k, v in method.items() if k in heeded or k not in others}
    return {**saved, "env": env, "algorithm": algorithm, "method": method}
