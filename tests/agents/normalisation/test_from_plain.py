"""Statistics of a plain `VecNormalize`, taken over and made invariant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents import EquivariantDQN, MirrorLossDQN, SymmetricVecNormalize
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import AgentError, SymmetryError
from shared.normalized_tasks import CASES, Drawn, asymmetric, envs_of, moved_by, symmetry


def plain(name: str) -> VecNormalize:
    envs = VecNormalize(envs_of(name), clip_obs=np.inf, gamma=0.9)
    envs.reset()
    for _ in range(40):
        envs.step(np.array([0]))
    return envs


@pytest.mark.parametrize("name", CASES)
def test_statistics_taken_over_are_those_of_the_moved_observations(name: str) -> None:
    old = plain(name)
    new: Any = SymmetricVecNormalize.from_plain(old)
    seen = asymmetric(CASES[name][0], 200).astype(np.float64)
    old.obs_rms.mean, old.obs_rms.var = seen.mean(0), seen.var(0)
    new = SymmetricVecNormalize.from_plain(old)
    for move, _ in CASES[name][1].values():
        np.testing.assert_allclose(move(new.obs_rms.mean), new.obs_rms.mean, atol=1e-10)
    orbit = symmetry(name).orbit(seen).reshape(-1, *seen.shape[1:])
    np.testing.assert_allclose(new.obs_rms.mean, orbit.mean(0), atol=1e-8)
    if not CASES[name][2]:  # otherwise a VecNormalize does not know enough
        np.testing.assert_allclose(new.obs_rms.var, orbit.var(0), rtol=1e-8)
    assert new.ret_rms.var == old.ret_rms.var
    assert (new.gamma, new.clip_obs) == (0.9, np.inf)


@pytest.mark.parametrize("name", ["signed-permutation", "offset", "rotation"])
def test_a_file_gives_what_the_wrapper_gives_and_is_symmetric(name: str, tmp_path: Path) -> None:
    old = plain(name)
    old.save(str(tmp_path / "normalize.pkl"))
    here: Any = SymmetricVecNormalize.from_plain(old)
    there: Any = SymmetricVecNormalize.from_plain(tmp_path / "normalize.pkl", envs_of(name))
    for part in ("mean", "var", "count"):
        np.testing.assert_array_equal(getattr(there.obs_rms, part), getattr(here.obs_rms, part))
    carried = symmetry_of(there)
    observations = asymmetric(CASES[name][0], 50, seed=1)
    normalized = there.normalize_obs(observations)
    for generator in CASES[name][1]:
        moved = there.normalize_obs(moved_by(name, generator, observations))
        wanted = carried.transform_observation(generator, normalized)
        np.testing.assert_allclose(moved, wanted, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"none\.pkl"):
        SymmetricVecNormalize.from_plain(tmp_path / "none.pkl", envs_of("offset"))
    with pytest.raises(SymmetryError, match=r"of shape \(3,\), the environments have Box"):
        SymmetricVecNormalize.from_plain(plain("offset"), envs_of("signed-permutation"))
    plain("offset").save(str(tmp_path / "normalize.pkl"))
    with pytest.raises(SymmetryError, match="holds no environments"):
        SymmetricVecNormalize.from_plain(tmp_path / "normalize.pkl")


@pytest.mark.parametrize("make", [EquivariantDQN, MirrorLossDQN])
def test_with_the_trivial_group_plain_normalisation_breaks_nothing(make: type[DQN]) -> None:
    def trivial() -> Any:
        return SymmetryWrapper(Drawn(CASES["offset"][0], 2), {})

    envs = VecNormalize(DummyVecEnv([trivial]))
    model = make("MlpPolicy", envs, buffer_size=99, learning_starts=10, device="cpu")
    model.learn(30)
    model.set_env(VecNormalize(DummyVecEnv([trivial])))
    with pytest.raises(SymmetryError, match="VecNormalize"):
        make("MlpPolicy", VecNormalize(envs_of("offset")), buffer_size=99, device="cpu")
