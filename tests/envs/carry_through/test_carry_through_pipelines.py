"""Through whole pipelines of wrappers, Q-values move as the raw observations do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import (
    FlattenObservation,
)
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecTransposeImage,
)

from equirl.agents import EquivariantDQN, SymmetricVecNormalize
from equirl.envs import symmetry_of
from shared.carried_tasks import (
    FLOAT,
    STACK,
    TASKS,
    Env,
    Layer,
    declared,
    to_bytes,
    to_unit_range,
    told,
)
from shared.policy_tasks import Flat
from shared.rarely import rarely


def stacked(order: str | None = None) -> Layer:
    return lambda envs: VecFrameStack(envs, 3, channels_order=order)


def normalized(envs: Any) -> Any:
    clip = np.inf if symmetry_of(envs).group.order == 3 else 10.0
    return SymmetricVecNormalize(envs, clip_obs=clip)


# By name: task, wrappers of the environment, wrappers of the vectorized ones.
PIPELINES: dict[str, tuple[str, list[Layer], list[Layer]]] = {
    "vector": ("vector", [], []),
    "vector-frames": ("vector", [STACK], []),
    "vector-frames-flat": ("vector", [STACK, FlattenObservation], []),
    "vector-vec-frames": ("vector", [], [stacked()]),
    "vector-rescaled-vec-frames-first": ("vector", [to_unit_range], [stacked("first")]),
    "vector-normalised": ("vector", [to_unit_range], [normalized, VecMonitor]),
    "vector-vec-frames-normalised": ("vector", [], [stacked(), normalized]),
    "offset-frames-normalised": ("offset", [STACK, FlattenObservation], [normalized]),
    "turn-frames": ("turn", [STACK], []),
    "turn-vec-frames-normalised": ("turn", [], [stacked(), normalized]),
    "image": ("image", [], []),
    "image-frames-flat": ("image", [STACK, FlattenObservation], []),
    "image-vec-frames": ("image", [], [stacked()]),
    "image-vec-frames-last": ("image", [], [stacked("last")]),
    "image-vec-frames-first": ("image", [], [stacked("first")]),
    "image-turned-vec-frames": ("image", [], [VecTransposeImage, stacked()]),
    "image-turned-vec-frames-last": ("image", [], [VecTransposeImage, stacked("last")]),
    "image-turned-normalised": ("image", [], [VecTransposeImage, normalized]),
    "image-vec-frames-monitored": ("image", [], [stacked(), VecMonitor]),
    "negative-image-normalised": ("negative-image", [], [normalized]),
    "bool-image": ("bool-image", [], []),
    "bool-image-vec-frames": ("bool-image", [], [stacked("last")]),
    "bool-image-bytes-vec-frames": ("bool-image", [to_bytes], [stacked()]),
    "bool-image-float-normalised": ("bool-image", [FLOAT], [normalized]),
    "discrete": ("discrete", [], []),
    "discrete-frames": ("discrete", [STACK], []),
    "dict-with-discrete": ("dict-with-discrete", [], []),
    "dict-with-discrete-frames": ("dict-with-discrete", [STACK], []),
    "dict-vec-frames": ("dict-of-boxes", [], [stacked()]),
    "dict-turned-vec-frames": ("dict-of-boxes", [], [VecTransposeImage, stacked()]),
    "dict-flat": ("dict-of-boxes", [FlattenObservation], []),
    "dict-flat-frames-vec-frames": ("dict-of-boxes", [FlattenObservation, STACK], [stacked()]),
}


def pipeline(name: str, *, moved: bool = False) -> VecEnv:
    task, wrappers, vec_wrappers = PIPELINES[name]

    def make() -> Env:
        env = told(task, moved=moved)
        for wrapper in wrappers:
            env = wrapper(env)
        return env

    envs: Any = DummyVecEnv([make])
    for vec_wrapper in vec_wrappers:
        envs = vec_wrapper(envs)
    return envs


def q_values(model: EquivariantDQN, observation: Any) -> np.ndarray:
    tensor, _ = model.policy.obs_to_tensor(observation)
    with torch.no_grad():
        values: np.ndarray = model.q_net(tensor).numpy()
    return values


RARE = ["vector-vec-frames-normalised", "turn-frames", "image-frames-flat"]
RARE += ["image-vec-frames-last", "image-turned-vec-frames-last", "image-vec-frames-monitored"]
RARE += ["bool-image-vec-frames", "dict-with-discrete-frames", "dict-flat-frames-vec-frames"]


@pytest.mark.parametrize("name", rarely(PIPELINES, *RARE))
def test_q_values_of_moved_raw_observations_are_the_permuted_q_values(name: str) -> None:
    task = TASKS[PIPELINES[name][0]]
    envs = pipeline(name)
    is_dict = isinstance(envs.observation_space, spaces.Dict)
    model = EquivariantDQN(
        "MultiInputPolicy" if is_dict else "MlpPolicy",
        envs,
        "equitune",
        policy_kwargs={"net_arch": [8], "features_extractor_class": Flat},
        buffer_size=300,
        learning_starts=50,
        train_freq=20,
        seed=0,
        device="cpu",
    )
    assert model.symmetry.group == declared(PIPELINES[name][0]).group
    model.learn(100)
    plain: Any = EquivariantDQN._wrap_env(pipeline(name))
    moved: Any = EquivariantDQN._wrap_env(pipeline(name, moved=True))
    observations = plain.reset(), moved.reset()
    differences = []
    for _ in range(9):  # two episodes
        here, there = (q_values(model, observation) for observation in observations)
        # Q(gs, ga) = Q(s, a)
        np.testing.assert_allclose(there[:, task.permutation], here, atol=1e-5, rtol=1e-5)
        differences.append(np.ptp(here))
        action = np.array([0])
        (left, *_, infos), (right, *_, moved_infos) = plain.step(action), moved.step(action)
        observations = left, right
        if "terminal_observation" in infos[0]:
            here, there = (
                q_values(model, info[0]["terminal_observation"]) for info in (infos, moved_infos)
            )
            np.testing.assert_allclose(there[:, task.permutation], here, atol=1e-5, rtol=1e-5)
    assert max(differences) > 1e-3  # so that permuting them makes a difference
