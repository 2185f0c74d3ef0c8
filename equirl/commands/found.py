"""``equirl check discover=…`` and ``show=true``: symmetries as tables of named entries."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit
from tqdm import tqdm

from equirl.declaring import Mirror, describe_action
from equirl.errors import ConfigError
from equirl.symmetry import Symmetry
from equirl.verification import discover_symmetries
from equirl.verification.play import collect

MOST_ENTRIES = 32
"""Of observations that are searched."""

LONGEST_EPISODE = 200
"""Steps, in play for the search: many short episodes tell more than a few long ones."""


def discover_in_model(title: str, env: gym.Env[Any, Any]) -> None:
    """Print what the MuJoCo model of an environment has, as tables and as a declaration.

    Raises:
        ConfigError: MuJoCo is not installed.
        SymmetryError: it is not a MuJoCo environment, or its model is not understood.
    """
    try:
        from equirl.envs.mujoco import environment_symmetries
    except ImportError as error:
        raise ConfigError('discover=model needs pip install "equirl[mujoco]"') from error
    found = environment_symmetries(env)
    for name, reason in found.refused.items():
        print(f"{title} does not have {name}: {reason}")
    if not found.generators:
        print(f"{title}: the model has no symmetry that the task shares")
        return
    _print_tables(found.symmetry, list(found.generators), found.entry_names, found.action_names)
    print(f"\n{title}: a group of order {found.symmetry.group.order}; as a declaration:\n")
    _print_declaration(found.generators)


def discover_in_play(
    title: str, env: gym.Env[Any, Any], transitions: int, seed: int, level: float, progress: bool
) -> None:
    """Print what random play of an environment has, as tables and as a declaration.

    Raises:
        ConfigError: observations or actions are not of a kind that is searched.
        SymmetryError: the play does not tell enough.
    """
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise ConfigError(f"discover=true takes observations of a Box of one axis, got {space}")
    if space.shape[0] > MOST_ENTRIES:
        raise ConfigError(
            f"discover=true takes observations of at most {MOST_ENTRIES} entries, got "
            f"{space.shape[0]}: for a MuJoCo model there is discover=model"
        )
    if not isinstance(env.action_space, gym.spaces.Discrete | gym.spaces.Box):
        raise ConfigError(f"the action space must be Discrete or Box, got {env.action_space}")
    with tqdm(unit="step", disable=not progress, leave=False) as bar:
        short = TimeLimit(env, LONGEST_EPISODE)
        played = collect(short, 2 * transitions, seed, bar.update)
    found = discover_symmetries(played, env.action_space, level, seed)
    for number in found.unseen:
        print(f"s[{number}] hardly varied: what becomes of it is not known, it is left as it is")
    if found.untested:
        print(f"{found.untested} more candidates were not tested: random play does not tell enough")
    if not found.generators:
        print(f"{title}: no signed permutation of the entries is a symmetry, nor a turn by thirds")
        print("(other affine maps, such as x -> c - x, are not searched)")
        return
    _print_tables(found.symmetry, list(found.generators), *_fitting_names(env, found.symmetry))
    print(f"\n{title}: a group of order {found.symmetry.group.order} was found. In other episodes")
    for verdict in found.verdicts:
        word = "holds" if verdict.holds else "is not refused"
        print(f"  {verdict.quantity} of {verdict.generator} {word}: {verdict.detail}")
    print("(other affine maps, such as x -> c - x, are not searched); as a declaration:\n")
    _print_declaration(found.generators)


def _print_declaration(generators: Mapping[str, Any]) -> None:
    print("symmetry = {")
    for name, maps in generators.items():
        sources = [_as_source(*pair) for pair in zip("sa", maps, strict=True)]
        line = f'    "{name}": ({", ".join(sources)}),'
        if len(line) <= 100 and "\n" not in line:
            print(line)
            continue
        print(f'    "{name}": (')
        for source in sources:
            print(textwrap.indent(source + ",", " " * 8))
        print("    ),")
    print("}")


def show(env: gym.Env[Any, Any], symmetry: Symmetry) -> None:
    """Print what the generators do to every entry, by name where the environment has names."""
    generators = [symmetry.group.names[g] for g in symmetry.group.generators]
    _print_tables(symmetry, generators, *_fitting_names(env, symmetry))


def _fitting_names(env: gym.Env[Any, Any], symmetry: Symmetry) -> list[Any]:
    return [
        given
        if given is not None and len(given) == sum(leaf.size for leaf in action.leaves)
        else None
        for given, action in zip(
            _names_in_model(env), (symmetry.observations, symmetry.actions), strict=True
        )
    ]


def _print_tables(symmetry: Symmetry, generators: list[str], *names: Any) -> None:
    for name in generators:
        for what, given in zip(("observations", "actions"), names, strict=True):
            print(f"\n{name}, {what}:\n")
            print(describe_action(getattr(symmetry, what), name, given))


def _names_in_model(env: gym.Env[Any, Any]) -> tuple[Any, Any]:
    try:
        from equirl.envs.mujoco import names_of
    except ImportError:
        return None, None
    return names_of(env)


def _as_source(argument: str, declared: Any) -> str:
    """A map as an expression that can be pasted."""
    if isinstance(declared, Mirror):
        signs, index = declared.sign.tolist(), declared.index.tolist()
        if index == list(range(len(index))):
            text = f"{signs}"
        else:
            text = f"lambda {argument}: np.array({signs}) * {argument}[{index}]"
    elif isinstance(declared, list):
        text = f"{declared}"
    elif isinstance(declared, np.ndarray):
        text = f"np.array({declared.tolist()})"
    else:
        matrix, offset = declared.matrix.tolist(), declared.offset.tolist()
        text = f"lambda {argument}: np.array({matrix}) @ {argument} + np.array({offset})"
    return "\n    ".join(textwrap.wrap(text, 88, break_long_words=False))
