"""`SymmetryWrapper` exposes a symmetry on an environment; `symmetry_of` finds it again."""

from __future__ import annotations

import re
from typing import Any, Protocol, TypeVar, runtime_checkable

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from equirl.envs.registry import Declaration, declared_symmetry, registered_symmetry
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

Observation = TypeVar("Observation")
Action = TypeVar("Action")

TRANSPARENT_WRAPPERS = frozenset(
    {
        "Autoreset",
        "ClipReward",
        "HumanRendering",
        "Monitor",
        "NormalizeReward",
        "OrderEnforcing",
        "PassiveEnvChecker",
        "RandomTransformWrapper",
        "RecordEpisodeStatistics",
        "RecordVideo",
        "RenderCollection",
        "TimeLimit",
        "TransformReward",
        "TransformWrapper",
    }
)
"""Wrappers that hand observations and actions on unchanged, or moved by a group element."""

TRANSPARENT_VEC_WRAPPERS = frozenset(
    {"VecCheckNan", "VecMonitor", "VecTransposeImage", "VecVideoRecorder"}
)
"""SB3's, likewise; the policy itself undoes `VecTransposeImage`."""


class SymmetryWrapper(gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs):
    """Exposes the symmetry of an environment as ``env.symmetry``; changes nothing else.

    Args:
        env: the environment. Put this wrapper outermost, behind every wrapper that changes
            observations or actions: the symmetry is that of what comes out.
        symmetry: a `Symmetry`, or generators, or a function of the two spaces returning either.
            None looks the environment up among the known ones.

    Raises:
        SymmetryError: the symmetry does not fit the spaces, or none is known.

    Example:
        >>> import numpy as np
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> env.symmetry.group.names
        ('e', 'mirror')
        >>> env = SymmetryWrapper(gym.make("MountainCar-v0"), {"mirror": (np.negative, [2, 1, 0])})
        >>> env.symmetry.group.order
        2
    """

    def __init__(
        self,
        env: gym.Env[Observation, Action],
        symmetry: Symmetry | Declaration | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, symmetry=symmetry)
        gym.Wrapper.__init__(self, env)
        if symmetry is None:
            self.symmetry = symmetry_of(env)
        else:
            self.symmetry = declared_symmetry(symmetry, env.observation_space, env.action_space)
        _check_spaces(self.symmetry, env)


@runtime_checkable
class VectorEnv(Protocol):
    """The part of SB3's `VecEnv` that is needed to find a symmetry in it."""

    num_envs: int

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each environment."""
        ...


def symmetry_of(env: gym.Env[Any, Any] | VectorEnv) -> Symmetry:
    """The symmetry of an environment, or of SB3's vectorized environments.

    It is that of the outermost `SymmetryWrapper`, or else the registered one of the environment's
    id. It is that of the observations as they come out of ``env``: any wrapper in between that may
    change observations or actions is refused by name rather than guessed at.

    Raises:
        SymmetryError: see above; the message says what to do.
    """
    if isinstance(env, gym.Env):
        return _symmetry_of_env(env)
    return _symmetry_of_vector_env(env)


def _symmetry_of_env(env: gym.Env[Any, Any]) -> Symmetry:
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, SymmetryWrapper):
            return layer.symmetry
        _check_transparent(type(layer).__name__)
        layer = layer.env
    env_id = layer.spec.id if layer.spec is not None else type(layer).__name__
    return registered_symmetry(env_id, layer.observation_space, layer.action_space)


def _symmetry_of_vector_env(env: Any) -> Symmetry:
    layer = env
    while hasattr(layer, "venv"):
        name = type(layer).__name__
        normalises_rewards_only = name == "VecNormalize" and not layer.norm_obs
        if name not in TRANSPARENT_VEC_WRAPPERS and not normalises_rewards_only:
            advice = (
                "use VecNormalize(…, norm_obs=False)"
                if name == "VecNormalize"
                else "do the same inside each environment, with SymmetryWrapper around it"
            )
            raise SymmetryError(f"{name} changes observations and breaks the symmetry: {advice}")
        layer = layer.venv
    if hasattr(layer, "envs"):
        symmetries = [symmetry_of(one) for one in layer.envs]
    else:
        symmetries = _symmetries_in_processes(layer)
    if any(other != symmetries[0] for other in symmetries[1:]):
        raise SymmetryError("the vectorized environments have different symmetries")
    return symmetries[0]


def _symmetries_in_processes(env: Any) -> list[Symmetry]:
    # A class that cannot be unpickled here must not matter, so ask for the layers' names alone:
    # Gymnasium shows an environment as <Outermost<Next<…>>>.
    for shown in env.env_method("__str__"):
        names = re.findall(r"<(\w+)", shown)
        if SymmetryWrapper.__name__ not in names:
            raise SymmetryError(
                f"{type(env).__name__} hides what is in its processes: wrap each environment, "
                "SymmetryWrapper(env)"
            )
        for name in names[: names.index(SymmetryWrapper.__name__)]:
            _check_transparent(name)
    symmetries: list[Symmetry] = env.get_attr("symmetry")
    return symmetries


def _check_transparent(name: str) -> None:
    if name not in TRANSPARENT_WRAPPERS:
        raise SymmetryError(
            f"{name} may change observations or actions, so the symmetry of what is inside it "
            f"may not hold outside: declare it outside, SymmetryWrapper({name}(…), symmetry)"
        )


def _check_spaces(symmetry: Symmetry, env: gym.Env[Any, Any]) -> None:
    for name, declared, actual in (
        ("observations", symmetry.observation_space, env.observation_space),
        ("actions", symmetry.action_space, env.action_space),
    ):
        if declared != actual:
            raise SymmetryError(
                f"the symmetry was declared for {name} in {declared}, the environment has {actual}"
            )
