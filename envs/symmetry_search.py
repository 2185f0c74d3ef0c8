"""`symmetry_of`: the symmetry that an environment declares or is known to have."""

from __future__ import annotations

import copyreg
import re
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym

from equirl.envs.carry_through import cannot_carry, carried_through, is_transparent, known_class
from equirl.envs.carry_through.recognition import loaded_classes, redefined
from equirl.envs.registry import (
    Declaration,
    arguments_to_ask_for,
    declared_symmetry,
    possible_names,
    registered_ids,
    registered_symmetry,
    registered_wrappers,
    unknown,
)
from equirl.errors import SymmetryError
from equirl.shown import shown
from equirl.symmetry import Symmetry

MANY = 100
"""More layers that declare a symmetry than anybody puts around one environment."""


@runtime_checkable
class VectorEnv(Protocol):
    """The part of SB3's `VecEnv` that is needed to find a symmetry in it."""

    num_envs: int

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each environment."""
        ...


def symmetry_of(
    env: gym.Env[Any, Any] | VectorEnv | gym.vector.VectorEnv[Any, Any, Any],
    declaration: Symmetry | Declaration | None = None,
) -> Symmetry:
    """The symmetry of an environment, or of each of the vectorized environments.

    It is that of the outermost `SymmetryWrapper`, or else the registered one of the environment's
    id, carried through every wrapper in between to the observations that come out of ``env``. A
    wrapper that it cannot be carried through is refused by its class rather than guessed at.

    Args:
        env: the environment, or vectorized ones, SB3's or Gymnasium's.
        declaration: the symmetry where it is not to be looked up: of what comes out of the
            environment, or of each of the vectorized ones.

    Raises:
        SymmetryError: see above; the message says what to do.
    """
    if isinstance(env, gym.vector.VectorEnv):
        return _of_gymnasiums_vector_env(env, declaration)
    if not isinstance(env, gym.Env):
        if not isinstance(env, VectorEnv):
            raise SymmetryError(
                f"expected an environment, got {shown(env)}: make it, gymnasium.make(…), or ask "
                "symmetry_by_id"
            )
        return _of_vec_env(env, declaration)
    if declaration is None:
        return _of_env(env)
    return declared_symmetry(declaration, env.observation_space, env.action_space)


def check_spaces(symmetry: Symmetry, env: Any) -> None:
    """Refuse a symmetry of other spaces than those of an environment.

    Raises:
        SymmetryError: see above; with both spaces.
    """
    for name, declared, actual in (
        ("observations", symmetry.observation_space, env.observation_space),
        ("actions", symmetry.action_space, env.action_space),
    ):
        if declared != actual:
            raise SymmetryError(
                f"the symmetry was declared for {name} in {shown(declared)}, the environment has "
                f"{shown(actual)}"
            )


def _of_env(env: gym.Env[Any, Any]) -> Symmetry:
    outside: list[gym.Env[Any, Any]] = []
    layer = env
    while isinstance(layer, gym.Wrapper) and not _declares(layer):
        outside.append(layer)
        layer = layer.env
    if isinstance(layer, gym.Wrapper):
        symmetry: Symmetry = vars(layer)["symmetry"]
    else:
        spec = layer.spec
        if spec is None:
            raise unknown(type(layer).__name__)
        layer = _behind_own_wrappers(layer, outside, registered_wrappers(spec.id))
        symmetry = registered_symmetry(
            spec.id, layer.observation_space, layer.action_space, spec.kwargs
        )
    for wrapper in reversed(outside):
        symmetry = carried_through(symmetry, wrapper)
    return symmetry


def _declares(layer: Any) -> bool:
    """Whether this layer itself says what the symmetry is, as SymmetryWrapper does."""
    return isinstance(vars(layer).get("symmetry"), Symmetry)


def _behind_own_wrappers(
    layer: gym.Env[Any, Any], outside: list[gym.Env[Any, Any]], own: frozenset[str]
) -> gym.Env[Any, Any]:
    """The outermost layer whose observations the registered declaration is about."""
    kinds = loaded_classes(own)
    is_own = [known_class(wrapper, kinds) is not None for wrapper in reversed(outside)]
    last = max((i for i, found in enumerate(is_own) if found), default=-1)
    for found in is_own[: last + 1]:
        layer = outside.pop()
        if not found and not is_transparent(layer):
            raise cannot_carry(layer)
    return layer


def _of_vec_env(env: Any, declaration: Symmetry | Declaration | None) -> Symmetry:
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecTransposeImage

    outside: list[Any] = []
    layer = env
    while "venv" in vars(layer):
        # The policy itself undoes SB3's turning of images, as long as that comes last.
        turns_images = type(layer) is VecTransposeImage and not redefined(layer, VecTransposeImage)
        if outside or not turns_images:
            outside.append(layer)
        layer = layer.venv
    if declaration is not None:
        symmetry = declared_symmetry(declaration, layer.observation_space, layer.action_space)
    elif _declares(layer):
        symmetry = layer.symmetry
    elif changed := _changed(layer, DummyVecEnv, SubprocVecEnv):
        raise _acts_its_own_way(layer, changed)
    else:
        is_here = isinstance(layer, DummyVecEnv)
        try:
            of_each = map(symmetry_of, layer.envs) if is_here else _of_processes(layer)
            symmetry = _the_same(list(of_each))
        except SymmetryError:
            given = [i for i, wrapper in enumerate(outside) if _was_given_one(wrapper)]
            if not given:
                raise
            # SymmetricVecNormalize(envs, symmetry), inside of which nothing is declared.
            symmetry, layer = outside[given[-1]].symmetry, outside[given[-1]].venv
            outside = outside[: given[-1] + 1]
    if outside:  # otherwise the policy compares them
        check_spaces(symmetry, layer)
    for wrapper in reversed(outside):
        symmetry = carried_through(symmetry, wrapper)
    return symmetry


def _was_given_one(wrapper: Any) -> bool:
    """Whether a wrapper of vectorized environments holds the symmetry of what it wraps."""
    held = vars(wrapper).get("symmetry")
    return isinstance(held, Symmetry) and held.observation_space == wrapper.venv.observation_space


def _changed(layer: Any, *kinds: type[Any]) -> str:
    """What vectorized environments do in another way than the library's; "" for nothing."""
    kind = next((kind for kind in kinds if isinstance(layer, kind)), None)
    return "" if kind is None else next(iter(redefined(layer, kind)), "")


def _acts_its_own_way(layer: Any, method: str) -> SymmetryError:
    return SymmetryError(
        f"{type(layer).__name__} defines {method} in its own way, so what comes out may not be "
        "what its environments give: give the symmetry of what comes out, EquivariantDQN(…, "
        "symmetry=generators) or symmetry_of(envs, generators)"
    )


def _the_same(symmetries: list[Symmetry]) -> Symmetry:
    if any(other != symmetries[0] for other in symmetries[1:]):
        raise SymmetryError("the vectorized environments have different symmetries")
    return symmetries[0]


def _of_gymnasiums_vector_env(env: Any, declaration: Symmetry | Declaration | None) -> Symmetry:
    outside: list[Any] = []
    layer = env
    while isinstance(layer, gym.vector.VectorWrapper):
        outside.append(layer)
        layer = layer.env
    single = layer.single_observation_space, layer.single_action_space
    if declaration is not None:
        symmetry = declared_symmetry(declaration, *single)
    elif changed := _changed(layer, gym.vector.SyncVectorEnv):
        raise _acts_its_own_way(layer, changed)
    elif isinstance(layer, gym.vector.SyncVectorEnv):
        symmetry = _the_same([symmetry_of(one) for one in layer.envs])
    elif isinstance(layer, gym.vector.AsyncVectorEnv) or layer.spec is None:
        raise SymmetryError(
            f"{type(layer).__name__} hides what is in it: give the declaration, "
            "symmetry_of(envs, declaration), or ask one of its environments, "
            "symmetry_of(gymnasium.make(…))"
        )
    else:
        symmetry = registered_symmetry(layer.spec.id, *single, layer.spec.kwargs)
    for wrapper in reversed(outside):
        symmetry = carried_through(symmetry, wrapper)
    return symmetry


# The classes of environments in other processes are known there alone. SB3's VecEnv asks about
# classes in one way: env_is_wrapped, which is isinstance(layer, kind) for every layer. So what is
# to be known of a layer is asked as a class, which is pickled as the question and what it is about.


class _Question(type):
    """A class whose instances are the layers for which the answer is yes."""

    def __instancecheck__(cls, layer: Any) -> bool:
        yes: bool = vars(cls)["answer"](layer, vars(cls)["about"])
        return yes


def _question(answer: Callable[[Any, Any], bool], about: Any) -> type[Any]:
    """The layers of which ``answer(layer, about)`` is true."""
    return _Question("Question", (), {"answer": staticmethod(answer), "about": about})


def _reduced(question: type[Any]) -> Any:
    return _question, (vars(question)["answer"].__func__, vars(question)["about"])


copyreg.pickle(_Question, _reduced)


def _declares_around(layer: Any, count: int) -> bool:
    """Whether a layer declares a symmetry, as ``count`` layers inside it do."""
    return _declares(layer) and _declaring_inside(layer) == count


def _changes(layer: Any, count: int) -> bool:
    """Whether a layer changes what is declared inside it, where ``count`` layers declare it."""
    return _declaring_inside(layer) == count and not _declares(layer) and not _hands_on(layer)


def _is_registered_as(layer: Any, name: str) -> bool:
    spec = layer.unwrapped.spec
    return spec is not None and name in possible_names(spec.id)


def _is_made_with(layer: Any, argument: str) -> bool:
    return argument in layer.unwrapped.spec.kwargs


def _does_not_keep(layer: Any, symmetry: Symmetry) -> bool:
    """Whether a layer declares, or makes of a symmetry, another one, or may do so."""
    try:
        return _declares(layer) or carried_through(symmetry, layer) != symmetry
    except SymmetryError:
        return True


def _of_processes(env: Any) -> list[Symmetry]:
    """What is declared in the processes, or else what is registered for the environments there."""
    # A VecEnv of the user's own may raise anything where it does not know its environments.
    try:
        return _declared_in_processes(env) or _registered_in_processes(env)
    except SymmetryError:
        raise
    except Exception as error:
        raise _says_nothing(env) from error


def _declared_in_processes(env: Any) -> list[Symmetry]:
    """The outermost declared symmetries, where no wrapper around them changes them."""
    count = 0
    while count < MANY and all(env.env_is_wrapped(_question(_declares_around, count))):
        count += 1
    if count == MANY:  # it says yes to anything
        raise _says_nothing(env)
    if not count:
        return []
    if any(env.env_is_wrapped(_question(_changes, count))):
        raise SymmetryError(
            f"a wrapper in the processes of {type(env).__name__} changes what SymmetryWrapper says "
            "inside it: put SymmetryWrapper outside it"
        )
    symmetries: list[Symmetry] = env.get_attr("symmetry")
    if not symmetries or not all(isinstance(found, Symmetry) for found in symmetries):
        raise _says_nothing(env)
    return symmetries


def _registered_in_processes(env: Any) -> list[Symmetry]:
    """The symmetry of an id, where each wrapper in the processes keeps it as it is."""
    with_version = re.compile(r"-v\d+$").search
    for name in sorted(registered_ids(), key=lambda one: with_version(one) is None):
        if all(env.env_is_wrapped(_question(_is_registered_as, name))):
            break
    else:
        raise _says_nothing(env)
    remedy = "wrap each environment there, SymmetryWrapper(env)"
    arguments = [
        argument
        for argument in arguments_to_ask_for(name)
        if any(env.env_is_wrapped(_question(_is_made_with, argument)))
    ]
    try:
        symmetry = registered_symmetry(name, env.observation_space, env.action_space, arguments)
    except SymmetryError as error:
        raise SymmetryError(
            f"what is registered for {name} does not fit what comes out of the processes of "
            f"{type(env).__name__} ({error}): {remedy}"
        ) from error
    if any(env.env_is_wrapped(_question(_does_not_keep, symmetry))):
        raise SymmetryError(
            f"the symmetry of {name} is registered, but a wrapper in the processes of "
            f"{type(env).__name__} may change it: {remedy}"
        )
    return [symmetry]


def _says_nothing(env: Any) -> SymmetryError:
    return SymmetryError(
        f"{type(env).__name__} hides what is in its environments: wrap each of them, "
        "SymmetryWrapper(env), or give the symmetry, EquivariantDQN(…, symmetry=generators) or "
        "symmetry_of(envs, generators)"
    )


def _hands_on(layer: Any) -> bool:
    """Whether the symmetry of what comes out of a wrapper is that of what goes in."""
    try:
        return symmetry_of(layer) == symmetry_of(layer.env)
    except SymmetryError:
        return False


def _declaring_inside(layer: Any) -> int:
    """How many layers inside a layer declare a symmetry."""
    count = 0
    while isinstance(layer, gym.Wrapper):
        layer = layer.env
        count += _declares(layer)
    return count
