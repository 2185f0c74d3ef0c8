"""What wrappers remember beyond an episode, such as the statistics of ``NormalizeReward``."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any

import cloudpickle
import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor

from equirl.envs.running.random_states import generators_of

NOTHING_TO_REMEMBER = (OrderEnforcing, PassiveEnvChecker, TimeLimit, Monitor)


def remembered(env: gym.Env[Any, Any]) -> bytes | None:
    """The attributes of an environment's wrappers, for `remember`.

    The layers themselves and their random generators are only named in it.

    Returns:
        None where they cannot be pickled.
    """
    file = io.BytesIO()
    try:
        _Pickler(file, env).dump([_own(layer) for layer in _that_remember(env)])
    except Exception:  # whatever the wrappers' parts raise
        return None
    return file.getvalue()


def remember(env: gym.Env[Any, Any], memory: bytes | None) -> None:
    """Give the same wrappers the attributes that they had.

    Args:
        env: wrapped in the same way.
        memory: from `remembered`; None changes nothing.
    """
    if memory is None:
        return
    attributes = _Unpickler(io.BytesIO(memory), env).load()
    for layer, own in zip(_that_remember(env), attributes, strict=True):
        vars(layer).update(own)


def _that_remember(env: gym.Env[Any, Any]) -> Iterator[Any]:
    for layer in _layers(env)[:-1]:
        if type(layer) not in NOTHING_TO_REMEMBER and not type(layer).__module__.startswith(
            "equirl."
        ):
            yield layer


def _layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _own(layer: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items() if name != "env"}


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, file: io.BytesIO, env: gym.Env[Any, Any]) -> None:
        super().__init__(file)
        self._named: dict[int, int | str] = {id(layer): i for i, layer in enumerate(_layers(env))}
        self._named |= {id(generator): name for name, generator in generators_of(env)}

    def persistent_id(self, obj: Any) -> int | str | None:
        return self._named.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, env: gym.Env[Any, Any]) -> None:
        super().__init__(file)
        self._of = dict(enumerate(_layers(env))) | dict(generators_of(env))

    def persistent_load(self, name: Any) -> Any:
        return self._of[name]
