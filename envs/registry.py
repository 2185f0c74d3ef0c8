"""The registry of known symmetries: which generators belong to which environment id."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from equirl.errors import SymmetryError
from equirl.shown import shown
from equirl.symmetry import Generators, Symmetry

Declaration = Generators | Callable[[spaces.Space[Any], spaces.Space[Any]], Generators | Symmetry]
"""Generators, or a function (observation space, action space) -> generators or Symmetry."""

StateMap = Callable[[Any], None]
"""Moves the unwrapped environment, in place, from its state s into gs."""


@dataclass(frozen=True)
class KnownSymmetry:
    """What the registry holds about an environment.

    Args:
        declaration: the symmetry.
        state_maps: by generator name, how to put the environment into the moved state.
        through: observation wrappers of the environment's own, behind which the symmetry holds, as
            ``module:Class``.
        tolerance: relative difference up to which a simulator keeps to its own symmetry.
        remark: what the state maps leave out.
        not_with: keyword arguments of the environment with which it is not known to hold.
    """

    declaration: Declaration
    state_maps: Mapping[str, StateMap]
    through: frozenset[str]
    tolerance: float
    remark: str = ""
    not_with: tuple[str, ...] = ()


_known: dict[str, KnownSymmetry] = {}


def register_symmetry(
    env_id: str,
    declaration: Declaration,
    state_maps: Mapping[str, StateMap] | None = None,
    through: Collection[str | type[gym.Wrapper[Any, Any, Any, Any]]] = (),
    tolerance: float = 1e-4,
    remark: str = "",
    not_with: Collection[str] = (),
) -> None:
    """Make the symmetry of an environment known, so that nobody has to declare it again.

    Args:
        env_id: the id given to `gymnasium.make`, such as ``"CartPole-v1"``; with a module to
            import, ``"module:Id-v0"``, or without a version, for all that have none of their own.
        declaration: generators as `Symmetry.from_generators` takes them, or a function of the
            observation space and the action space that returns generators or a `Symmetry`. It
            replaces what was registered under this id before.
        state_maps: by generator name, a function that moves the *unwrapped* environment in place
            from its present state s into gs, its random generator too where draws decide a side
            (left alone, draws are compared as laws). Where given, the symmetry can be verified
            exactly.
        through: the environment's own observation wrappers that the declaration is made for, where
            its raw observations are of no use: classes, or ``"module:Class"`` of modules that need
            not be there, such as ``"minigrid.wrappers:ImgObsWrapper"``.
        tolerance: by how much, relative to the size of observations, the simulator may miss the
            symmetry in a few steps through rounding; for the exact verification.
        remark: one line on what the state maps leave out, said with what they verify.
        not_with: names of keyword arguments of the environment, such as ``"xml_file"``, that may
            make another task of it: with one of them the declaration is not handed out.

    Raises:
        SymmetryError: the id is not a string, or ``through`` does not name wrappers.

    Example:
        >>> import numpy as np
        >>> register_symmetry("My/Pendulum-v0", {"mirror": (np.negative, [1, 0])})
    """
    if not isinstance(env_id, str):
        raise SymmetryError(
            f"a symmetry is registered under an id such as 'CartPole-v1', got {shown(env_id)}"
        )
    references = frozenset(
        one if isinstance(one, str) else f"{one.__module__}:{one.__name__}" for one in through
    )
    for reference in references:
        if ":" not in reference:
            raise SymmetryError(
                f"through names wrappers as classes, or as module:Class, got {reference!r}"
            )
    _known[without_module(env_id)] = KnownSymmetry(
        declaration, dict(state_maps or {}), references, tolerance, remark, tuple(not_with)
    )


def without_module(env_id: str) -> str:
    """The id under which Gymnasium keeps what ``gymnasium.make("module:Id-v0")`` makes."""
    return env_id.rpartition(":")[2]


def possible_names(env_id: str | None) -> tuple[str, str]:
    """Under what an environment's symmetry may be registered: its id, or that without a version."""
    wanted = without_module(env_id or "")
    return wanted, re.sub(r"-v\d+$", "", wanted)


def known_id(env_id: str | None) -> str | None:
    """The id under which an environment's symmetry is registered, or None.

    An entry for this version counts before one for all versions.
    """
    return next((name for name in possible_names(env_id) if name in _known), None)


def registered_ids() -> tuple[str, ...]:
    """The environment ids whose symmetry is known."""
    return tuple(sorted(_known))


def declared_symmetry(
    declaration: Declaration | Symmetry,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> Symmetry:
    """What a declaration says about these spaces.

    Raises:
        SymmetryError: it does not fit them.
    """
    if callable(declaration):
        declaration = declaration(observation_space, action_space)
    if isinstance(declaration, Symmetry):
        return declaration
    if not isinstance(declaration, Mapping):
        raise SymmetryError(
            f"a symmetry is declared by a Symmetry, or by generators such as "
            f'{{"mirror": (np.negative, [1, 0])}}, got {type(declaration).__name__}; of an '
            "environment pass env.symmetry"
        )
    return Symmetry.from_generators(observation_space, action_space, declaration)


def registered_symmetry(
    env_id: str | None,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    arguments: Collection[str] = (),
) -> Symmetry:
    """The symmetry registered for an environment id.

    Args:
        env_id: the id.
        observation_space: of the environment.
        action_space: of the environment.
        arguments: names of the keyword arguments that it was made with.

    Raises:
        SymmetryError: none is registered (the message says how to declare one), it is not known to
            hold with one of the arguments, or it does not fit the spaces.
    """
    known = known_id(env_id)
    if known is None:
        raise unknown(str(env_id))
    other = next((name for name in _known[known].not_with if name in arguments), None)
    if other is not None:
        raise SymmetryError(
            f"the symmetry registered for {known} is not known to hold with {other}=…: declare "
            "that of this environment, SymmetryWrapper(env, symmetry), or have it found in a "
            "MuJoCo model, equirl.envs.mujoco.symmetry_of_mujoco(env) (on the command line "
            "equirl check discover=model)"
        )
    return declared_symmetry(_known[known].declaration, observation_space, action_space)


def unknown(name: str) -> SymmetryError:
    """The error for an environment whose symmetry is not known."""
    return SymmetryError(
        f"no symmetry is known for {name}: declare it, for example "
        'SymmetryWrapper(env, {"mirror": (np.negative, [1, 0])}), register_symmetry, or '
        f"env.symmetry=my_module:my_symmetry on the command line{_near(name)}"
    )


def _near(env_id: str) -> str:
    close = difflib.get_close_matches(env_id, registered_ids(), n=3, cutoff=0.7)
    return f" (known is {', '.join(close)})" if close else ""


def registered_state_maps(env_id: str | None) -> Mapping[str, StateMap]:
    """How to put an environment into a moved state, by generator name; empty where not known."""
    known = known_id(env_id)
    return {} if known is None else _known[known].state_maps


def registered_wrappers(env_id: str | None) -> frozenset[str]:
    """As ``module:Class``, the wrappers behind which an environment's registered symmetry holds."""
    known = known_id(env_id)
    return frozenset() if known is None else _known[known].through


def arguments_to_ask_for(env_id: str | None) -> tuple[str, ...]:
    """Keyword arguments with which an environment's registered symmetry is not known to hold."""
    known = known_id(env_id)
    return () if known is None else _known[known].not_with


def registered_tolerance(env_id: str | None) -> float:
    """By how much an environment's simulator may miss its own symmetry."""
    known = known_id(env_id)
    return 1e-4 if known is None else _known[known].tolerance


def registered_remark(env_id: str | None) -> str:
    """What an environment's state maps leave out, or nothing."""
    known = known_id(env_id)
    return "" if known is None else _known[known].remark
