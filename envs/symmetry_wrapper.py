"""`SymmetryWrapper` exposes a symmetry on an environment; `symmetry_of` finds it again."""

from __future__ import annotations

import re
from typing import Any, Protocol, TypeVar, runtime_checkable

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from equirl.envs.carry_through import TRANSPARENT, cannot_carry, carried_through
from equirl.envs.registry import (
    Declaration,
    declared_symmetry,
    registered_symmetry,
    registered_wrappers,
)
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

Observation = TypeVar("Observation")
Action = TypeVar("Action")


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
        self.symmetry = symmetry_of(env, symmetry)
        _check_spaces(self.symmetry, env)


@runtime_checkable
class VectorEnv(Protocol):
    """The part of SB3's `VecEnv` that is needed to find a symmetry in it."""

    num_envs: int

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each environment."""
        ...


def symmetry_of(
    env: gym.Env[Any, Any] | VectorEnv, declaration: Symmetry | Declaration | None = None
) -> Symmetry:
    """The symmetry of an environment, or of SB3's vectorized environments.

    It is that of the outermost `SymmetryWrapper`, or else the registered one of the environment's
    id, carried through every wrapper in between to the observations that come out of ``env``. A
    wrapper that it cannot be carried through is refused by name rather than guessed at.

    Args:
        env: the environment, or vectorized ones.
        declaration: the symmetry where it is not to be looked up: of what comes out of the
            environment, or of each of the vectorized ones.

    Raises:
        SymmetryError: see above; the message says what to do.
    """
    if not isinstance(env, gym.Env):
        return _symmetry_of_vector_env(env, declaration)
    if declaration is None:
        return _symmetry_of_env(env)
    return declared_symmetry(declaration, env.observation_space, env.action_space)


def _symmetry_of_env(env: gym.Env[Any, Any]) -> Symmetry:
    outside: list[gym.Env[Any, Any]] = []
    layer = env
    while isinstance(layer, gym.Wrapper) and not _declares(layer):
        outside.append(layer)
        layer = layer.env
    if isinstance(layer, gym.Wrapper):
        symmetry: Symmetry = vars(layer)["symmetry"]
    else:
        env_id = layer.spec.id if layer.spec is not None else type(layer).__name__
        layer = _behind_own_wrappers(layer, outside, registered_wrappers(env_id))
        symmetry = registered_symmetry(env_id, layer.observation_space, layer.action_space)
    for wrapper in reversed(outside):
        symmetry = carried_through(symmetry, wrapper)
    return symmetry


def _declares(layer: gym.Env[Any, Any]) -> bool:
    """Whether this layer itself says what the symmetry is, as SymmetryWrapper does."""
    return isinstance(vars(layer).get("symmetry"), Symmetry)


def _behind_own_wrappers(
    layer: gym.Env[Any, Any], outside: list[gym.Env[Any, Any]], own: frozenset[str]
) -> gym.Env[Any, Any]:
    """The outermost layer whose observations the registered declaration is about."""
    last = max((i for i, w in enumerate(reversed(outside)) if type(w).__name__ in own), default=-1)
    for _ in range(last + 1):
        layer = outside.pop()
        if type(layer).__name__ not in own | TRANSPARENT:
            raise cannot_carry(type(layer).__name__, is_vectorized=False)
    return layer


def _symmetry_of_vector_env(env: Any, declaration: Symmetry | Declaration | None) -> Symmetry:
    outside: list[Any] = []
    layer = env
    while hasattr(layer, "venv"):
        # The policy itself undoes SB3's turning of images, as long as that comes last.
        if outside or type(layer).__name__ not in TRANSPARENT | {"VecTransposeImage"}:
            outside.append(layer)
        layer = layer.venv
    if declaration is not None:
        (observation_space, *_) = layer.get_attr("observation_space")
        symmetries = [declared_symmetry(declaration, observation_space, layer.action_space)]
    elif hasattr(layer, "envs"):
        symmetries = [symmetry_of(one) for one in layer.envs]
    else:
        symmetries = _symmetries_in_processes(layer)
    if any(other != symmetries[0] for other in symmetries[1:]):
        raise SymmetryError("the vectorized environments have different symmetries")
    symmetry = symmetries[0]
    if outside:  # otherwise the policy compares them
        _check_spaces(symmetry, layer)
    for wrapper in reversed(outside):
        symmetry = carried_through(symmetry, wrapper)
    return symmetry


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
            if name not in TRANSPARENT:
                raise cannot_carry(name, is_vectorized=False)
    symmetries: list[Symmetry] = env.get_attr("symmetry")
    return symmetries


def _check_spaces(symmetry: Symmetry, env: gym.Env[Any, Any]) -> None:
    for name, declared, actual in (
        ("observations", symmetry.observation_space, env.observation_space),
        ("actions", symmetry.action_space, env.action_space),
    ):
        if declared != actual:
            raise SymmetryError(
                f"the symmetry was declared for {name} in {declared}, the environment has {actual}"
            )
