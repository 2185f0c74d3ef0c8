"""What environments lack for their symmetry: behind the remedy it holds, without it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

from equirl.envs import symmetry_of
from equirl.envs.known_symmetries.mujoco import even_legs, straight_pole
from equirl.envs.registry import registered_state_maps, registered_tolerance
from equirl.verification.exact import check_symmetry
from equirl.verification.verdicts import SymmetryReport

REMEDIES: dict[str, Callable[[Any], Any]] = {
    "InvertedPendulum-v5": straight_pole,
    "Humanoid-v5": even_legs,
}


def report_of(env_id: str, make: Callable[[], Any]) -> SymmetryReport:
    return check_symmetry(
        make(),
        symmetry_of(make()),
        registered_state_maps(env_id),
        make_env=make,
        transitions=1500,
        level=1e-4,
        tolerance=registered_tolerance(env_id),
    )


def breaches(report: SymmetryReport) -> list[Any]:
    return [v for v in report.verdicts if not v.holds and v.quantity != "initial states"]


@pytest.mark.parametrize("env_id", REMEDIES)
def test_behind_its_remedy_the_environment_is_symmetric(env_id: str) -> None:
    pytest.importorskip("mujoco")
    assert not breaches(report_of(env_id, lambda: REMEDIES[env_id](gym.make(env_id))))


@pytest.mark.parametrize("env_id", REMEDIES)
def test_without_the_remedy_the_symmetry_is_refused(env_id: str) -> None:
    pytest.importorskip("mujoco")
    assert breaches(report_of(env_id, lambda: gym.make(env_id)))
