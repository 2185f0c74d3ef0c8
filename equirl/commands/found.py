"""``equirl check discover=…`` and ``show=true``: symmetries as tables of named entries."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit
from tqdm import tqdm

from equirl.declaring import Mirror, describe_action, describe_changes
from equirl.errors import ConfigError
from equirl.symmetry import Symmetry
from equirl.verification import Discovery, Unconfirmed, discover_symmetries
from equirl.verification.play import Play, collect

MOST_ENTRIES = 32
"""Of observations that are searched."""

LONGEST_EPISODE = 200
"""Steps, in play for the search: many short episodes tell more than a few long ones."""

FRESH = 10**6
"""Added to the seed for the play on which what was refused is tested once more."""

SEARCHED = (
    "Searched: signed permutations of the entries, and turns by thirds (not other affine maps, "
    "such as x -> c - x)"
)


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
    title: str,
    env: gym.Env[Any, Any],
    transitions: int,
    seed: int,
    level: float,
    progress: bool,
) -> dict[str, Any]:
    """Print what random play of an environment has, as tables and as a declaration.

    Returns:
        The same as plain data.

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
    short = TimeLimit(env, LONGEST_EPISODE)

    def played(count: int, seed: int) -> Play:
        with tqdm(total=count, unit="step", disable=not progress, leave=False) as bar:
            return collect(short, count, seed, bar.update)

    found = discover_symmetries(
        played(2 * transitions, seed),
        env.action_space,
        level,
        seed,
        play_again=lambda: played(transitions, seed + FRESH),
    )
    for number in found.unseen:
        print(f"s[{number}] hardly varied: what becomes of it is not known, it is left as it is")
    names = _fitting_names(env, found.symmetry)
    if found.generators:
        _print_tables(found.symmetry, list(found.generators), *names)
        order = found.symmetry.group.order
        print(f"\n{title}: a group of order {order} was found. In other episodes")
        for verdict in found.verdicts:
            word = "holds" if verdict.holds else "is not refused"
            print(f"  {verdict.quantity} of {verdict.generator} {word}: {verdict.detail}")
        for name, p_value in found.second_tests.items():
            print(f"  {name} was refused at first, p = {p_value:.2g}, and passed on fresh play")
    else:
        print(f"{title}: no symmetry was found, which does not say that there is none")
    _print_not_found(found, names, transitions, seed, level)
    if found.generators:
        print("As a declaration:\n")
        _print_declaration(found.generators)
    return _as_data(title, found, names, level)


def _print_not_found(
    found: Discovery, names: list[Any], transitions: int, seed: int, level: float
) -> None:
    """The candidates that were not confirmed, what was not looked at, and what would help."""
    print(SEARCHED)
    for number, one in enumerate(found.unconfirmed, 1):
        print(f"  candidate {number}, {one.reason}:\n    {_changes(one, names)}")
    if found.untested:
        print(f"  {found.untested} more candidates were not tested")
    if found.unconfirmed:
        print(
            f"A test at level={level:g} refuses true symmetries too, though rarely twice; one that "
            f"fails only a little is refused rightly.\nWhat tells more: seed={seed + 1}, "
            f"transitions={2 * transitions}, or the candidate declared "
            "(env.symmetry=module:object) and checked\nexactly by a state map "
            "(env.state_maps=module:object)"
        )
    elif not found.generators:
        print(
            f"Play proposed none of these. What tells more: seed={seed + 1}, "
            f"transitions={2 * transitions}, or a symmetry that you\nexpect, declared "
            "(env.symmetry=module:object)"
        )


def _changes(one: Unconfirmed, names: list[Any]) -> str:
    """What a candidate does, on one line."""
    symmetry = one.symmetry
    is_box = isinstance(symmetry.action_space, gym.spaces.Box)
    counts = [
        sum(leaf.size for leaf in action.leaves)
        for action in (symmetry.observations, symmetry.actions)
    ]
    on_states = names[0] or [f"s[{i}]" for i in range(counts[0])]
    on_actions = names[1] or ([f"a[{i}]" for i in range(counts[1])] if is_box else None)
    parts = (
        describe_changes(symmetry.observations, "candidate", on_states),
        describe_changes(symmetry.actions, "candidate", on_actions),
    )
    before = ("", "" if is_box else "actions ")
    return "; ".join(word + part for word, part in zip(before, parts, strict=True) if part)


def _as_data(title: str, found: Discovery, names: list[Any], level: float) -> dict[str, Any]:
    """What was found as plain data, for a report in JSON."""
    return {
        "env": title,
        "level": level,
        "order": found.symmetry.group.order,
        "found": [
            {
                "name": name,
                "observations": _as_source("s", maps[0]),
                "actions": _as_source("a", maps[1]),
                "refused_at_first": found.second_tests.get(name),
                "verdicts": [
                    {"quantity": v.quantity, "outcome": v.outcome, "p_value": v.size}
                    for v in found.verdicts
                    if v.generator == name
                ],
            }
            for name, maps in found.generators.items()
        ],
        "unconfirmed": [
            {
                "changes": _changes(one, names),
                "observations": _as_source("s", one.generator[0]),
                "actions": _as_source("a", one.generator[1]),
                "reason": one.reason,
                "p_values": list(one.p_values),
            }
            for one in found.unconfirmed
        ],
        "untested": found.untested,
        "unseen": list(found.unseen),
    }


def _print_declaration(generators: Mapping[str, Any]) -> None:
    every = {
        name: [_as_source(*pair) for pair in zip("sa", maps, strict=True)]
        for name, maps in generators.items()
    }
    if any("np." in source for sources in every.values() for source in sources):
        print("import numpy as np\n")
    print("symmetry = {")
    for name, sources in every.items():
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
