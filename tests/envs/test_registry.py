"""The registry of known symmetries, and what it says where none is known."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from equirl import Symmetry
from equirl.envs import (
    SymmetryWrapper,
    register_symmetry,
    registered_ids,
    registry,
    symmetry_of,
)
from equirl.envs.registry import registered_symmetry
from equirl.errors import SymmetryError
from shared.wrapped_envs import Line


def test_a_symmetry_is_registered_as_generators_or_as_a_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    generators = {"mirror": (np.negative, [1, 0])}
    box, two = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)
    seen: list[Any] = []

    def function(observation_space: Any, action_space: Any) -> Any:
        seen.append((observation_space, action_space))
        return generators

    def whole(observation_space: Any, action_space: Any) -> Symmetry:
        return Symmetry.from_generators(observation_space, action_space, generators)

    class Plain(gym.Env[Any, Any]):
        observation_space = box
        action_space = two

    for name, declaration in (("a", generators), ("b", function), ("c", whole)):
        env_id = f"equirl-test/Registered-{name}-v0"
        gym.register(env_id, entry_point=lambda: Plain(), max_episode_steps=5)
        env = gym.make(env_id, disable_env_checker=True)
        del gym.registry[env_id]
        with pytest.raises(SymmetryError, match=f"no symmetry is known for {env_id}"):
            symmetry_of(env)
        register_symmetry(env_id, declaration)
        assert env_id in registered_ids()
        assert symmetry_of(env) == whole(box, two)
        assert SymmetryWrapper(env).symmetry.group.names == ("e", "mirror")
        register_symmetry(env_id, {})
        assert symmetry_of(env).group.order == 1
    assert seen
    assert all(spaces_seen == (box, two) for spaces_seen in seen)


def test_an_unknown_environment_is_told_how_to_declare_a_symmetry() -> None:
    with pytest.raises(SymmetryError) as caught:
        symmetry_of(Line())
    message = str(caught.value)
    assert "\n" not in message
    for way in ("SymmetryWrapper(env, {", "register_symmetry", "env.symmetry="):
        assert way in message


def test_a_mistyped_environment_is_told_the_nearest_known_ones() -> None:
    with pytest.raises(SymmetryError, match=r"\(known is CartPole-v1"):
        registered_symmetry("CartPol-v1", spaces.Box(-1, 1, (4,)), spaces.Discrete(2))


class Thing(gym.Env[Any, Any]):
    observation_space, action_space = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)


class Sized(Thing):
    def __init__(self, model: str = "own", goal: int = 0, speed: int = 1) -> None:
        pass


def test_a_symmetry_is_not_handed_out_where_an_argument_may_break_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    name, mirror = "Equirl-Test/Sized-v0", {"mirror": (np.negative, [1, 0])}
    gym.register(name, entry_point=Sized)
    register_symmetry(name, mirror, not_with=("model", "goal"))
    assert symmetry_of(gym.make(name, speed=2)).group.order == 2
    for argument, value in (("model", "another"), ("goal", 1)):
        env = gym.make(name, **{argument: value})
        for ask in (symmetry_of, SymmetryWrapper):
            with pytest.raises(SymmetryError, match=f"{name} is not known to hold with {argument}"):
                ask(env)  # type: ignore[operator]
        assert symmetry_of(SymmetryWrapper(env, mirror)).group.order == 2


@pytest.mark.parametrize("env_id", [None, 3, gym.spec("CartPole-v1")])
def test_a_symmetry_is_registered_under_an_id_alone(env_id: Any) -> None:
    with pytest.raises(SymmetryError, match="under an id such as 'CartPole-v1', got"):
        register_symmetry(env_id, {})


@pytest.mark.parametrize("given", ["CartPole-v1", None, Thing])
def test_what_is_not_an_environment_has_no_symmetry(given: Any) -> None:
    for declaration in (None, {}):
        with pytest.raises(SymmetryError, match=r"expected an environment, got .*gymnasium.make"):
            symmetry_of(given, declaration)


@pytest.mark.parametrize(
    ("registered", "made"),
    [
        ("a_module:Equirl-Test/Thing-v0", "Equirl-Test/Thing-v0"),
        ("Equirl-Test/Thing-v0", "equirl.errors:Equirl-Test/Thing-v0"),
        ("a.module:Equirl-Test/Bare", "Equirl-Test/Bare"),
        ("Equirl-Test/Thing", "Equirl-Test/Thing-v0"),
    ],
)
def test_an_id_is_found_in_whatever_notation_gymnasium_takes(
    registered: str, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    gym.register(made.rpartition(":")[2], entry_point=Thing)
    register_symmetry(registered, {"mirror": (np.negative, [1, 0])})
    assert symmetry_of(gym.make(made)).group.order == 2


def test_a_symmetry_of_one_version_counts_before_that_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    box, two = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)
    register_symmetry("Equirl-Test/Thing", {"mirror": (np.negative, [1, 0])})
    register_symmetry("Equirl-Test/Thing-v1", {})
    orders = [
        registered_symmetry(f"Equirl-Test/Thing-v{version}", box, two).group.order
        for version in (0, 1, 2)
    ]
    assert orders == [2, 1, 2]


def test_a_class_of_the_same_name_as_an_id_is_not_that_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    register_symmetry("Thing", {"mirror": (np.negative, [1, 0])})
    with pytest.raises(SymmetryError, match="no symmetry is known for Thing"):
        symmetry_of(Thing())


def test_wrappers_of_an_environments_own_are_named_as_classes() -> None:
    with pytest.raises(SymmetryError, match="got 'ImgObsWrapper'"):
        register_symmetry("Equirl-Test/Thing-v0", {}, through=["ImgObsWrapper"])
