"""Orbit replay beside normalisation: observations are moved before they are normalised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecNormalize,
)

from equirl import Symmetry
from equirl.agents import (
    OrbitDictReplayBuffer,
    OrbitReplayBuffer,
)
from equirl.envs import symmetry_of
from equirl.errors import SymmetryError
from shared.normalized_tasks import Pair, envs_of, normalized, symmetry


@pytest.mark.covering(1)
@pytest.mark.parametrize("plain", [False, True], ids=["symmetric", "plain"])
@pytest.mark.parametrize("name", ["offset", "signed-permutation", "rotation"])
def test_orbit_replay_moves_observations_before_they_are_normalised(name: str, plain: bool) -> None:
    envs = VecNormalize(envs_of(name)) if plain else normalized(name)
    declared = symmetry(name)
    model = DQN(
        "MlpPolicy",
        envs,
        buffer_size=200,
        learning_starts=30,
        train_freq=10,
        replay_buffer_class=OrbitReplayBuffer,
        replay_buffer_kwargs={"symmetry": declared},
        policy_kwargs={"net_arch": [8]},
        device="cpu",
        seed=0,
    )
    model.learn(40)  # no observation comes twice
    buffer: Any = model.replay_buffer
    stored, after = buffer.observations[:40, 0], buffer.next_observations[:40, 0]
    states = declared.orbit(stored), declared.orbit(after)
    known = np.concatenate([envs.normalize_obs(s).reshape(*s.shape[:2], -1) for s in states], -1)
    rewards = envs.normalize_reward(buffer.rewards[:40, 0])
    seen = set()
    samples = buffer.sample(80, env=envs)
    for k in range(80):
        pair = np.concatenate([samples.observations[k], samples.next_observations[k]])
        g, row = np.argwhere(np.abs(known - pair).max(axis=-1) < 1e-5)[0]
        seen.add(int(g))
        action = declared.transform_action(int(g), int(buffer.actions[row, 0, 0]))
        assert int(samples.actions[k]) == action
        assert float(samples.rewards[k]) == pytest.approx(float(rewards[row]))
    assert seen == set(range(declared.group.order))


def test_orbit_replay_refuses_the_symmetry_of_normalised_observations() -> None:
    envs = normalized("offset")
    arguments: dict[str, Any] = {"buffer_size": 100, "learning_starts": 10, "device": "cpu"}
    arguments["replay_buffer_kwargs"] = {"symmetry": symmetry_of(envs)}
    model = DQN("MlpPolicy", envs, replay_buffer_class=OrbitReplayBuffer, **arguments)
    with pytest.raises(SymmetryError, match="before they are normalised"):
        model.learn(30)


class Walk(Pair):
    """To the left or to the right of where it was."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super(Pair, self).reset(seed=seed)
        self.place = np.array([0.5, 0.1], np.float32)
        return {"place": self.place}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place * np.float32(0.97) + np.float32([0.02, 0.1]) * (2 * action - 1)
        return {"place": self.place}, 1.0, False, False, {}


def test_orbit_replay_of_dicts_moves_before_plain_normalisation() -> None:
    mirror = {"mirror": ({"place": lambda place: 1 - place[::-1]}, [1, 0])}
    declared = Symmetry.from_generators(Pair.observation_space, Pair.action_space, mirror)
    envs = VecNormalize(DummyVecEnv([Walk]))
    model = DQN(
        "MultiInputPolicy",
        envs,
        buffer_size=100,
        learning_starts=100,
        replay_buffer_class=OrbitDictReplayBuffer,
        replay_buffer_kwargs={"symmetry": declared},
        device="cpu",
        seed=0,
    )
    model.learn(20)
    buffer: Any = model.replay_buffer
    samples = buffer.sample(40, env=envs)
    stored = buffer.observations["place"][:20, 0]
    known: Any = [envs.normalize_obs({"place": s})["place"] for s in (stored, 1 - stored[:, ::-1])]
    seen = set()
    for observation in samples.observations["place"].numpy():
        g, _ = np.argwhere(np.abs(np.stack(known) - observation).max(axis=-1) < 1e-6)[0]
        seen.add(int(g))
    assert seen == {0, 1}
