"""Every symmetry in the registry is real: `check_symmetry` on the live environment."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import gymnasium as gym
import pytest

from equirl.envs import registered_ids, symmetry_of
from equirl.envs.registry import registered_state_maps, registered_tolerance
from equirl.verification.exact import check_symmetry
from shared.rarely import rarely

UNEVEN = ("InvertedPendulum-v5", "Humanoid-v5", "BipedalWalker-v3")
"""These hold behind a remedy: test_even_models.py."""

FAMILIES = {"MiniGrid": "minigrid", "MinAtar": "minatar", "gymnasium_2048": "gymnasium_2048"}


def make(env_id: str) -> gym.Env[Any, Any]:
    package = FAMILIES.get(env_id.partition("/")[0].partition("-")[0])
    if package is not None and importlib.util.find_spec(package) is None:
        extra = {"gymnasium_2048": "twenty48"}.get(package, package)
        pytest.skip(f'needs pip install "equirl[{extra}]"')
    if package == "minatar":
        importlib.import_module("minatar.gym").register_envs()
    elif package is not None:
        importlib.import_module(package)
    try:
        env: gym.Env[Any, Any] = gym.make(env_id)
    except gym.error.DependencyNotInstalled:
        pytest.skip('needs pip install "equirl[box2d]" or "equirl[mujoco]"')
    if package == "minigrid":
        env = importlib.import_module("minigrid.wrappers").ImgObsWrapper(env)
    return env


HOLDING = [one for one in registered_ids() if one not in UNEVEN and "Broken" not in one]


def first_of_its_kind(env_id: str) -> bool:
    """Not another size, version or kind of action of one before it."""
    kinds = [re.split(r"-?[SN]?\d|-v|Continuous|Crossing|Gap|-Random", one)[0] for one in HOLDING]
    return HOLDING.index(env_id) == kinds.index(kinds[HOLDING.index(env_id)])


@pytest.mark.parametrize(
    "env_id",
    # test_third_party_symmetries.py has Lunar Lander's.
    rarely(HOLDING, "LunarLander-v3", *(n for n in HOLDING if not first_of_its_kind(n))),
)
def test_the_registered_symmetry_holds(env_id: str) -> None:
    env = make(env_id)
    symmetry = symmetry_of(env)
    maps = registered_state_maps(env_id)
    report = check_symmetry(
        env,
        symmetry,
        {name: state_map for name, state_map in maps.items() if name in symmetry.group.names},
        transitions=2000 if "Snake" in env_id else 1000,  # of 84 steps one is compared
        level=1e-4,
        tolerance=registered_tolerance(env_id),
    )
    left = [verdict for verdict in report.verdicts if not verdict.holds]
    # In so few steps a game may pay nothing, of which the check says so.
    assert all(v.outcome == "undecided" and "no reward was seen" in v.detail for v in left), left
    assert any(verdict.method == "exact" for verdict in report.verdicts)
