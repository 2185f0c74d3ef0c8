"""Which symmetry an agent gets: read off the environment, or given; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    NormalizeObservation,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from equirl import Symmetry
from equirl.agents import EquivariantDQN
from equirl.envs import SymmetryWrapper
from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS
from equirl.errors import AgentError, SymmetryError
from shared.small_agents import SMALL, cartpole

MIRROR = {"mirror": (np.negative, [1, 0])}


def test_a_symmetry_can_be_given_as_symmetry_generators_or_function() -> None:
    env = Monitor(unregistered())
    symmetry = Symmetry.from_generators(env.observation_space, env.action_space, MIRROR)
    for given in (symmetry, MIRROR, lambda *_: MIRROR, lambda *_: symmetry):
        model = EquivariantDQN("MlpPolicy", env, "equizero", symmetry=given, **SMALL)
        assert model.symmetry == symmetry


def test_a_given_symmetry_comes_before_that_of_the_environment() -> None:
    model = EquivariantDQN("MlpPolicy", SymmetryWrapper(cartpole()), symmetry={}, **SMALL)
    assert model.symmetry.group.order == 1
    symmetry = SymmetryWrapper(cartpole()).symmetry
    kwargs = {**SMALL, "policy_kwargs": {"symmetry": symmetry, "method": "equizero"}}
    model = EquivariantDQN("MlpPolicy", SymmetryWrapper(cartpole()), symmetry={}, **kwargs)
    assert model.symmetry is symmetry
    assert model.q_net.symmetrized.method.name == "equizero"


def test_generators_are_given_for_images_as_the_environment_shows_them() -> None:
    env = gym.make("equirl/GridWorld-v0", size=5)
    model = EquivariantDQN("MlpPolicy", env, symmetry=GRID_WORLD_GENERATORS, **SMALL)
    assert model.observation_space.shape == (3, 5, 5)
    assert model.symmetry.observation_space.shape == (5, 5, 3)
    assert model.symmetry.group.order == 8


class Unregistered(gym.Env[np.ndarray, np.int64]):
    """Nobody has declared a symmetry of this."""

    observation_space = spaces.Box(-1, 1, (4,))
    action_space = spaces.Discrete(2)


def unregistered() -> gym.Env[Any, Any]:
    return Unregistered()


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (unregistered, r"no symmetry is known for Unregistered: .*SymmetryWrapper\(env, \{"),
        (
            lambda: VecNormalize(DummyVecEnv([cartpole])),
            "VecNormalize .*: use equirl.agents.SymmetricVecNormalize .* or norm_obs=False",
        ),
        (
            lambda: NormalizeObservation(cartpole()),
            r"NormalizeObservation may change .*: declare the symmetry of what comes out, "
            r"SymmetryWrapper\(NormalizeObservation\(…\), symmetry\)",
        ),
        (
            lambda: NormalizeObservation(SymmetryWrapper(cartpole())),
            r"SymmetryWrapper\(NormalizeObservation\(…\), symmetry\)",
        ),
        (
            lambda: DummyVecEnv([cartpole, lambda: SymmetryWrapper(cartpole(), {})]),
            "the vectorized environments have different symmetries",
        ),
    ],
    ids=[
        "unknown",
        "VecNormalize",
        "NormalizeObservation",
        "outside",
        "different",
    ],
)
def test_an_environment_without_a_certain_symmetry_is_refused_with_what_to_do(
    make_env: Callable[[], Any], message: str
) -> None:
    with pytest.raises(SymmetryError, match=message) as caught:
        EquivariantDQN("MlpPolicy", make_env(), **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outside", [lambda envs: envs, VecMonitor], ids=["outermost", "inside"])
def test_running_statistics_are_refused_whoever_declares_the_symmetry(
    outside: Callable[[Any], Any], tmp_path: Path
) -> None:
    symmetry = SymmetryWrapper(cartpole()).symmetry
    message = r"VecNormalize .*: use equirl.agents.SymmetricVecNormalize .* or norm_obs=False"
    envs = outside(VecNormalize(DummyVecEnv([cartpole])))
    kwargs = {**SMALL, "policy_kwargs": {"symmetry": symmetry, "net_arch": [16]}}
    with pytest.raises(SymmetryError, match=message):
        EquivariantDQN("MlpPolicy", envs, **kwargs)
    with pytest.raises(SymmetryError, match=message):
        EquivariantDQN("MlpPolicy", envs, symmetry=symmetry, **SMALL)
    model = EquivariantDQN("MlpPolicy", cartpole(), **SMALL)
    model.save(tmp_path / "agent")
    with pytest.raises(SymmetryError, match=message):
        model.set_env(envs)
    with pytest.raises(SymmetryError, match=message):
        EquivariantDQN.load(tmp_path / "agent", env=envs, device="cpu")


def test_a_symmetry_of_other_spaces_is_refused() -> None:
    acrobot = SymmetryWrapper(gym.make("Acrobot-v1")).symmetry
    with pytest.raises(SymmetryError, match=r"moves Discrete\(3\), the policy has Discrete\(2\)"):
        EquivariantDQN("MlpPolicy", cartpole(), symmetry=acrobot, **SMALL)
    wide = Symmetry.from_generators(spaces.Box(-9, 9, (16,)), spaces.Discrete(2), MIRROR)
    for envs in (cartpole(), VecFrameStack(DummyVecEnv([cartpole]), 4)):
        with pytest.raises(SymmetryError, match=r"was declared for .*\(16,\).*(sees|has) .*\(4,\)"):
            EquivariantDQN("MlpPolicy", envs, symmetry=wide, **SMALL)


@pytest.mark.parametrize("name", ["method", "gradient", "init"])
def test_a_word_that_does_not_exist_is_answered_with_those_that_do(name: str) -> None:
    known = {
        "method": "equitune, lambda, equizero, canonical, relaxed",
        "gradient": "selected, straight_through",
        "init": "equitune, equizero",
    }[name]
    method = {"method": "equitone", "gradient": "equizero", "init": "lambda"}[name]
    words = {"method": method, name: "equitone"}
    with pytest.raises(ValueError, match=f"^{name} must be one of {known}, got 'equitone'"):
        EquivariantDQN("MlpPolicy", cartpole(), **words, **SMALL)


@pytest.mark.parametrize("kwargs", [{}, {"symmetry": MIRROR}])
def test_an_agent_without_an_environment_is_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="built for an environment, got None"):
        EquivariantDQN("MlpPolicy", None, **kwargs, **SMALL)
