"""Symmetries carried through wrappers: moving what goes in moves what comes out.

Observations are moved before they enter the real wrapper, by NumPy, and never by the map under
test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import (
    DtypeObservation,
    FlattenObservation,
    FrameStackObservation,
    RescaleObservation,
    ReshapeObservation,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecTransposeImage,
)

from equirl import Symmetry
from equirl.agents import EquivariantDQN, SymmetricVecNormalize
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import SymmetryError

Env = gym.Env[Any, Any]
Move = Callable[[Any], Any]
Layer = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Task:
    """A space of raw observations, and one generator of its symmetry as NumPy code."""

    space: spaces.Space[Any]
    move: Move
    permutation: tuple[int, ...]

    def symmetry(self) -> Symmetry:
        generators = {"g": (self.move, self.permutation)}
        return Symmetry.from_generators(
            self.space, spaces.Discrete(len(self.permutation)), generators
        )


def by_key(**moves: Move) -> Move:
    return lambda observation: {key: moves[key](part) for key, part in observation.items()}


def turned(point: np.ndarray) -> np.ndarray:
    """A third of a turn in the plane."""
    cos, sin = np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)
    matrix = np.array([[cos, -sin], [sin, cos]])
    return (matrix @ point).astype(point.dtype)


IMAGE = spaces.Box(0, 255, (6, 6, 2), np.uint8)
TASKS = {
    "vector": Task(
        spaces.Box(np.array([-2, -3, -np.inf, 0], "f"), np.array([2, 3, np.inf, np.inf], "f")),
        lambda v: v * np.array([-1, -1, -1, 1], v.dtype),
        (1, 0),
    ),
    "offset": Task(spaces.Box(0, 6, (3,)), lambda v: (6 - v[[1, 0, 2]]).astype(v.dtype), (1, 0)),
    "signs": Task(spaces.Box(-9, 9, (3,)), np.negative, (1, 0)),
    "turn": Task(spaces.Box(-1, 1, (2,)), turned, (1, 2, 0)),
    "image": Task(IMAGE, np.rot90, (3, 0, 1, 2)),
    "bool-image": Task(spaces.Box(0, 1, (5, 5, 2), np.bool_), np.fliplr, (1, 0)),
    "negative-image": Task(IMAGE, lambda image: 255 - image, (1, 0)),
    "discrete": Task(spaces.Discrete(5), lambda place: 4 - place, (1, 0)),
    "renamed": Task(spaces.Discrete(3), lambda place: (place + 1) % 3, (1, 2, 0)),
    "multi-binary": Task(spaces.MultiBinary(4), lambda bits: 1 - bits[::-1], (1, 0)),
    "dict-of-boxes": Task(
        spaces.Dict(
            image=IMAGE,
            flags=spaces.Box(0, 1, (2,), np.bool_),
            speed=spaces.Box(-3, 3, (2,)),
        ),
        by_key(image=np.fliplr, flags=lambda flags: flags[::-1], speed=np.negative),
        (1, 0),
    ),
    "dict-with-discrete": Task(
        spaces.Dict(image=IMAGE, place=spaces.Discrete(5), speed=spaces.Box(-3, 3, (2,))),
        by_key(image=np.fliplr, place=lambda place: 4 - place, speed=np.negative),
        (1, 0),
    ),
}


class Told(gym.Env[Any, np.int64]):
    """Shows the observations it was given, in episodes of five, then starts anew."""

    def __init__(self, task: Task, observations: list[Any]) -> None:
        self.observation_space = task.space
        self.action_space = spaces.Discrete(len(task.permutation))
        self._observations = itertools.cycle(observations)
        self._time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._time = 0
        return next(self._observations), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time += 1
        return next(self._observations), float(action), self._time == 4, False, {}


def told(name: str, *, moved: bool = False) -> Env:
    """An environment with a declared symmetry, showing observations or the moved ones."""
    task = TASKS[name]
    task.space.seed(7)
    observations = [task.space.sample() for _ in range(12)]
    if moved:
        observations = [task.move(observation) for observation in observations]
    return SymmetryWrapper(Told(task, observations), task.symmetry())


def flat(observation: Any) -> np.ndarray:
    is_dict = isinstance(observation, Mapping)
    parts = [observation[key] for key in sorted(observation)] if is_dict else [observation]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)


def assert_carried(name: str, wrapped: Layer) -> None:
    """What comes out of the wrappers moves by the symmetry found on them."""
    plain, moved = wrapped(told(name)), wrapped(told(name, moved=True))
    symmetry = symmetry_of(plain)
    assert symmetry.observation_space == plain.observation_space
    assert symmetry.group == TASKS[name].symmetry().group
    observations = [env.reset()[0] for env in (plain, moved)]
    for step in range(9):
        np.testing.assert_allclose(
            flat(observations[1]),
            flat(symmetry.transform_observation("g", observations[0])),
            rtol=1e-5,
            atol=1e-5,
        )
        if step == 4:
            observations = [env.reset()[0] for env in (plain, moved)]
        observations = [env.step(0)[0] for env in (plain, moved)]


def to_unit_range(env: Env) -> Env:
    """Where bounds are finite, to -1 … 1."""
    space: Any = env.observation_space
    finite = np.isfinite(space.low) & np.isfinite(space.high)
    return RescaleObservation(env, np.where(finite, -1, space.low), np.where(finite, 1, space.high))


def to_bytes(env: Env) -> Env:
    """Zeros and ones as an image that SB3 recognises."""
    return RescaleObservation(DtypeObservation(env, np.uint8), 0, 255)


def reversed_shape(env: Env) -> Env:
    return ReshapeObservation(env, tuple(reversed(env.observation_space.shape or ())))


STACK = partial(FrameStackObservation, stack_size=3)
FLOAT = partial(DtypeObservation, dtype=np.float32)


@pytest.mark.parametrize("name", TASKS)
def test_a_stack_of_frames_moves_frame_by_frame(name: str) -> None:
    assert_carried(name, STACK)


@pytest.mark.parametrize(
    "name",
    ["vector", "offset", "turn", "image", "bool-image", "negative-image", "dict-of-boxes"],
)
def test_flattened_observations_move_as_they_did_in_shape(name: str) -> None:
    assert_carried(name, FlattenObservation)


@pytest.mark.parametrize("name", ["vector", "offset", "turn"])
def test_rescaled_observations_move_about_the_rescaled_centre(name: str) -> None:
    assert_carried(name, to_unit_range)


def test_entries_rescaled_by_different_factors_may_still_change_places() -> None:
    swap = Task(spaces.Box(np.zeros(2, "f"), np.full(2, 4, "f")), lambda v: v[::-1], (1, 0))
    symmetry = swap.symmetry()

    def make(observation: list[float]) -> Env:
        env = SymmetryWrapper(Told(swap, [np.array(observation, "f")]), symmetry)
        return RescaleObservation(env, np.array([-1, 2], "f"), np.array([1, 10], "f"))

    carried = symmetry_of(make([0, 0]))
    (here, _), (there, _) = make([1, 3]).reset(), make([3, 1]).reset()
    np.testing.assert_allclose(here, [-0.5, 8])
    np.testing.assert_allclose(there, [0.5, 4])
    np.testing.assert_allclose(carried.transform_observation("g", here), there, rtol=1e-6)


def test_entries_shifted_only_because_one_bound_is_infinite_may_still_change_places() -> None:
    low, high = np.array([0, 5], "f"), np.full(2, np.inf, "f")
    swap = Task(spaces.Box(low, high), lambda v: v[::-1], (1, 0))
    symmetry = swap.symmetry()

    def make(observation: list[float]) -> Env:
        env = SymmetryWrapper(Told(swap, [np.array(observation, "f")]), symmetry)
        return RescaleObservation(env, np.array([1, 1], "f"), high)

    (here, _), (there, _) = make([6, 8]).reset(), make([8, 6]).reset()
    np.testing.assert_allclose(here, [7, 4])
    carried = symmetry_of(make([6, 8]))
    np.testing.assert_allclose(carried.transform_observation("g", here), there)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize(
    "name", ["image", "bool-image", "negative-image", "discrete", "multi-binary"]
)
def test_casting_keeps_the_symmetry(name: str, dtype: Any) -> None:
    assert_carried(name, lambda env: DtypeObservation(env, dtype))


@pytest.mark.parametrize("name", ["vector", "offset", "turn"])
def test_floats_are_cast_to_floats(name: str) -> None:
    assert_carried(name, lambda env: DtypeObservation(env, np.float64))


def test_cutting_floats_off_keeps_changes_of_sign() -> None:
    assert_carried("signs", lambda env: DtypeObservation(env, np.int32))


def test_a_board_of_bools_becomes_an_image_that_sb3_knows() -> None:
    assert_carried("bool-image", to_bytes)
    image, _ = to_bytes(told("bool-image")).reset()
    assert image.dtype == np.uint8
    assert set(image.ravel().tolist()) == {0, 255}


@pytest.mark.parametrize("name", ["vector", "offset", "turn", "image", "bool-image"])
def test_reshaped_observations_move_as_they_did_in_shape(name: str) -> None:
    assert_carried(name, reversed_shape)


LAYERS: dict[str, Layer] = {
    "stack": partial(FrameStackObservation, stack_size=2),
    "flatten": FlattenObservation,
    "rescale": to_unit_range,
    "float": FLOAT,
    "reshape": reversed_shape,
}


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["vector", "offset", "turn", "image", "bool-image", "negative-image"]),
    order=st.lists(st.sampled_from(sorted(LAYERS)), max_size=4),
)
def test_wrappers_in_any_order_carry_the_symmetry(name: str, order: list[str]) -> None:
    if order.count("stack") > 2:
        order = [layer for layer in order if layer != "stack"]

    def wrapped(env: Env) -> Env:
        env = FLOAT(env)  # integers are not rescaled well, see below
        for layer in order:
            env = LAYERS[layer](env)
        return env

    assert_carried(name, wrapped)


IMAGES = ("image", "negative-image")


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


class Flat(BaseFeaturesExtractor):
    """Everything side by side: an image of 6 x 6 is too small for SB3's convolutions."""

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))

    def forward(self, observations: Any) -> torch.Tensor:
        parts = observations.values() if isinstance(observations, dict) else [observations]
        return torch.cat([part.float().flatten(1) for part in parts], dim=1)


def q_values(model: EquivariantDQN, observation: Any) -> np.ndarray:
    tensor, _ = model.policy.obs_to_tensor(observation)
    with torch.no_grad():
        values: np.ndarray = model.q_net(tensor).numpy()
    return values


@pytest.mark.parametrize("name", PIPELINES)
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
        learning_starts=100,
        train_freq=20,
        seed=0,
        device="cpu",
    )
    assert model.symmetry.group == task.symmetry().group
    model.learn(200)
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


@pytest.mark.parametrize("task", ["offset", "negative-image", "multi-binary"])
def test_padding_that_moves_is_refused(task: str) -> None:
    assert symmetry_of(STACK(told(task))).group.order == 2
    env = FrameStackObservation(told(task), 2, padding_type="zero")
    with pytest.raises(SymmetryError, match=r"padding that g does not leave in place: use .*reset"):
        symmetry_of(env)
    if isinstance(TASKS[task].space, spaces.Box):
        with pytest.raises(SymmetryError, match="padding that g does not leave in place"):
            symmetry_of(VecFrameStack(DummyVecEnv([lambda: told(task)]), 2))


def test_padding_of_ones_own_that_stays_is_taken() -> None:
    centre = np.full(3, 3, np.float32)
    assert_carried("offset", lambda env: FrameStackObservation(env, 3, padding_type=centre))
    with pytest.raises(SymmetryError, match="padding"):
        symmetry_of(FrameStackObservation(told("offset"), 3, padding_type=centre + 1))


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (
            lambda: FlattenObservation(told("dict-with-discrete")),
            r"observation\['place'\], a Discrete, into another encoding",
        ),
        (lambda: FlattenObservation(told("discrete")), "the observation, a Discrete, into another"),
        (lambda: FLOAT(told("renamed")), "renames values of a Discrete"),
        (
            lambda: RescaleObservation(told("image"), 0, 1),
            r"into the same uint8: put DtypeObservation\(env, np.float32\) inside",
        ),
        (
            lambda: DtypeObservation(told("offset"), np.int32),
            "DtypeObservation cuts float32 off to int32",
        ),
        (
            lambda: DtypeObservation(told("turn"), np.int32),
            "DtypeObservation cuts float32 off to int32",
        ),
    ],
    ids=["flat-dict", "flat-discrete", "renamed", "rescaled-bytes", "cut-offset", "cut-turn"],
)
def test_what_cannot_be_carried_is_refused(make_env: Callable[[], Env], message: str) -> None:
    with pytest.raises(SymmetryError, match=message) as caught:
        symmetry_of(make_env())
    assert "\n" not in str(caught.value)


class Passing(VecEnvWrapper):
    """A user's own vectorized wrapper: who knows what it does."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


def test_a_wrapper_around_one_that_knows_its_symmetry_is_not_taken_for_it() -> None:
    # SB3's wrappers answer for what is inside them: getattr finds it there.
    inside = SymmetricVecNormalize(DummyVecEnv([lambda: told("vector")]))
    assert Passing(inside).carried_symmetry is not None
    with pytest.raises(SymmetryError, match="Passing may change observations"):
        symmetry_of(Passing(inside))
    assert symmetry_of(VecFrameStack(inside, 2)).observation_space.shape == (8,)


def test_a_flattened_turn_keeps_all_its_digits() -> None:
    symmetry = symmetry_of(FlattenObservation(told("turn")))
    (maps,) = symmetry.observations.maps
    assert maps.matrix[1, 0, 0] == pytest.approx(-0.5, abs=1e-15)  # type: ignore[attr-defined]
