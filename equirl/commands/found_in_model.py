"""``equirl check discover=model`` and ``show=true``: symmetries as tables of named entries."""

from __future__ import annotations

import textwrap
from typing import Any

import gymnasium as gym
import numpy as np

from equirl.declaring import Mirror, describe_action
from equirl.errors import ConfigError
from equirl.symmetry import Symmetry


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
    print("symmetry = {")
    for name, maps in found.generators.items():
        print(f'    "{name}": (')
        for argument, declared in zip("sa", maps, strict=True):
            print(textwrap.indent(_as_source(argument, declared) + ",", " " * 8))
        print("    ),")
    print("}")


def show(env: gym.Env[Any, Any], symmetry: Symmetry) -> None:
    """Print what the generators do to every entry, by name where the environment has names."""
    names = _names_in_model(env)
    fitting = [
        given
        if given is not None and len(given) == sum(leaf.size for leaf in action.leaves)
        else None
        for given, action in zip(names, (symmetry.observations, symmetry.actions), strict=True)
    ]
    generators = [symmetry.group.names[g] for g in symmetry.group.generators]
    _print_tables(symmetry, generators, *fitting)


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
    elif isinstance(declared, np.ndarray):
        text = f"np.array({declared.tolist()})"
    else:
        matrix, offset = declared.matrix.tolist(), declared.offset.tolist()
        text = f"lambda {argument}: np.array({matrix}) @ {argument} + np.array({offset})"
    return "\n    ".join(textwrap.wrap(text, 88, break_long_words=False))
