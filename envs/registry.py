"""The registry of known symmetries: which generators belong to which environment id."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces

from equirl.errors import SymmetryError
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
        through: observation wrappers of the environment's own, behind which the symmetry holds.
        tolerance: relative difference up to which a simulator keeps to its own symmetry.
    """

    declaration: Declaration
    state_maps: Mapping[str, StateMap]
    through: frozenset[str]
    tolerance: float


_known: dict[str, KnownSymmetry] = {}


def register_symmetry(
    env_id: str,
    declaration: Declaration,
    state_maps: Mapping[str, StateMap] | None = None,
    through: Collection[str] = (),
    tolerance: float = 1e-4,
) -> None:
    """Make the symmetry of an environment known, so that nobody has to declare it again.

    Args:
        env_id: the id given to `gymnasium.make`, such as ``"CartPole-v1"``.
        declaration: generators as `Symmetry.from_generators` takes them, or a function of the
            observation space and the action space that returns generators or a `Symmetry`. It
            replaces what was registered under this id before.
        state_maps: by generator name, a function that moves the *unwrapped* environment in place
            from its present state s into gs (its random generator left alone). Where given, the
            symmetry can be verified exactly.
        through: names of the environment's own observation wrappers that the declaration is made
            for, where its raw observations are of no use; such as ``ImgObsWrapper`` of MiniGrid.
        tolerance: by how much, relative to the size of observations, the simulator may miss the
            symmetry in a few steps through rounding; for the exact verification.

    Example:
        >>> import numpy as np
        >>> register_symmetry("My/Pendulum-v0", {"mirror": (np.negative, [1, 0])})
    """
    _known[env_id] = KnownSymmetry(
        declaration, dict(state_maps or {}), frozenset(through), tolerance
    )


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
    env_id: str | None, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> Symmetry:
    """The symmetry registered for an environment id.

    Raises:
        SymmetryError: none is registered (the message says how to declare one), or it does not fit
            the spaces.
    """
    if env_id not in _known:
        raise SymmetryError(
            f"no symmetry is known for {env_id}: declare it, for example "
            'SymmetryWrapper(env, {"mirror": (np.negative, [1, 0])}), register_symmetry, or '
            "env.symmetry=my_module:my_symmetry on the command line"
            f"{_near(str(env_id))}"
        )
    return declared_symmetry(_known[env_id].declaration, observation_space, action_space)


def _near(env_id: str) -> str:
    close = difflib.get_close_matches(env_id, registered_ids(), n=3, cutoff=0.7)
    return f" (known is {', '.join(close)})" if close else ""


def registered_state_maps(env_id: str | None) -> Mapping[str, StateMap]:
    """How to put an environment into a moved state, by generator name; empty where not known."""
    return _known[env_id].state_maps if env_id in _known else {}


def registered_wrappers(env_id: str | None) -> frozenset[str]:
    """The observation wrappers behind which an environment's registered symmetry holds."""
    return _known[env_id].through if env_id in _known else frozenset()


def registered_tolerance(env_id: str | None) -> float:
    """By how much an environment's simulator may miss its own symmetry."""
    return _known[env_id].tolerance if env_id in _known else 1e-4
