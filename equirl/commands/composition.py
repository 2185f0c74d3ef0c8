"""What Hydra has composed, completed: the algorithm chosen, every key typed, old keys moved."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from equirl.configs.algorithms import ALGORITHMS, AUTO, DEFAULT, takers
from equirl.configs.completion import GROUPS, typed
from equirl.configs.old_keys import MOVED, taken_out
from equirl.configs.schema import EnvConfig
from equirl.errors import ConfigError


def completed(
    command: str,
    config: DictConfig,
    algorithm: str | None = None,
    groups: Iterable[str] = tuple(GROUPS),
) -> DictConfig:
    """The configuration as the command takes it.

    Args:
        command: whose it is.
        config: as Hydra composed it, without Hydra's own part.
        algorithm: what ``algorithm=auto`` is; None asks the environment.
        groups: those to complete.

    Raises:
        ConfigError: no algorithm of ours takes the environment's actions, or a key is not one of
            its algorithm's or method's.
    """
    if algorithm is None and (config.get("resume") or config.get("repeat")):
        return config  # which is that of the earlier run
    if "algorithm" in config and config.algorithm.name == AUTO:
        name = algorithm or _algorithm_for(str(OmegaConf.to_yaml(_task(config), resolve=True)))
        config = _recomposed(command, f"algorithm={name}")
    says_env = any(key.partition(".")[0] == "env" for key in given_keys())
    if command == "benchmark" and not says_env and _is_continuous(config.algorithm.name):
        config = _recomposed(command, "env=pendulum")
    return typed(_with_old_keys_moved(command, config), groups)


def given_keys() -> list[str]:
    """The keys on the command line."""
    return [override.lstrip("+~").partition("=")[0] for override in _given()]


def check_actions(algorithm: str, space: Any) -> None:
    """Refuse an action space that an algorithm does not take.

    Raises:
        ConfigError: naming the algorithms that take it.
    """
    actions = type(space).__name__
    if actions not in ALGORITHMS[algorithm].ACTIONS:
        raise ConfigError(
            f"algorithm {algorithm} does not take {actions} actions: {_hint(actions)}"
        )


def _is_continuous(algorithm: str) -> bool:
    return algorithm in ALGORITHMS and "Discrete" not in ALGORITHMS[algorithm].ACTIONS


def _hint(actions: str) -> str:
    known = takers(actions)
    return f"algorithm={', '.join(known)}" if known else "no algorithm of equirl does"


@cache
def _algorithm_for(environment: str) -> str:
    """What ``algorithm=auto`` is in an environment, given as YAML."""
    # Imported here: everything that plays takes a second to import.
    from equirl.commands.environments import environment_maker

    task = OmegaConf.merge(OmegaConf.structured(EnvConfig), OmegaConf.create(environment))
    make_env, _ = environment_maker(
        cast(EnvConfig, OmegaConf.to_object(task)), needs_symmetry=False
    )
    with make_env() as env:
        actions = type(env.action_space).__name__
    name = DEFAULT.get(actions)
    if name not in ALGORITHMS:
        known = takers(actions)
        if not known:
            raise ConfigError(
                f"{task.id} has {actions} actions, which no algorithm of equirl takes"
            )
        return known[0]
    return name


def _given() -> list[str]:
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _recomposed(command: str, *more: str) -> DictConfig:
    """As Hydra composed the configuration at hand, with further arguments."""
    loader = GlobalHydra.instance().config_loader()
    where = [o for o in HydraConfig.get().overrides.hydra if o.startswith("hydra.searchpath")]
    config = loader.load_configuration(command, [*where, *_given(), *more], run_mode=RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    return config


def _task(config: DictConfig) -> Any:
    """The environment, as `EnvConfig` has it."""
    env: Any = OmegaConf.to_container(config.env, resolve=True)
    taken_out(env)
    return OmegaConf.merge(OmegaConf.structured(EnvConfig), env)


def _with_old_keys_moved(command: str, config: DictConfig) -> DictConfig:
    """What an environment file of version 0.1 says of the algorithm goes where it belongs now."""
    if "env" not in config:
        return config
    env: Any = OmegaConf.to_container(config.env, resolve=False)
    learning = taken_out(env)
    config.env = OmegaConf.merge(OmegaConf.structured(EnvConfig), env)
    if learning and "algorithm" in config:
        names = ", ".join(f"{old} is called {new}" for old, new in MOVED.items())
        print(f"equirl {command}: the env file is of version 0.1; now {names}", file=sys.stderr)
        for key, value in learning.items():
            if f"algorithm.{key}" not in given_keys():
                OmegaConf.update(config, f"algorithm.{key}", value, force_add=True)
    return config
