"""Wrappers are known by their class: subclasses that change nothing, namesakes, users' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    ClipReward,
    FilterObservation,
    FlattenObservation,
    FrameStackObservation,
    RescaleObservation,
    StickyAction,
    TimeLimit,
    TransformReward,
)
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common.atari_wrappers import StickyActionEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from equirl import Symmetry
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.envs.carry_through import lifted
from equirl.envs.running.guarded import GuardedEnv
from equirl.envs.running.resumable import ResumableEnv
from equirl.envs.stacked_images import FramesAsChannels
from equirl.errors import SymmetryError
from shared.carried_tasks import TASKS, Env, assert_carried, told


class Doubled(gym.RewardWrapper[Any, Any]):
    """A reward of the user's own."""

    def reward(self, reward: Any) -> float:
        return 2 * float(reward)


class Named(gym.Wrapper[Any, Any, Any, Any]):
    """Adds something, changes nothing."""

    title = "my environment"


class CountingMonitor(Monitor):
    """SB3's, with more to say and another way to render."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.counted = 0

    def render(self) -> Any:
        self.counted += 1
        return super().render()


class ShortLimit(TimeLimit[Any, Any]):
    """Gymnasium's, with a limit of its own."""

    def __init__(self, env: Env) -> None:
        super().__init__(env, 7)


class Flat(FlattenObservation[Any, Any, Any]):
    """Gymnasium's, under another name."""


HANDED_ON: dict[str, Callable[[Env], Any]] = {
    "reward-wrapper": Doubled,
    "added-attribute": Named,
    "monitor": CountingMonitor,
    "time-limit": ShortLimit,
    "clipped-reward": lambda env: ClipReward(env, -1, 1),
    "transformed-reward": lambda env: TransformReward(env, lambda reward: reward / 2),
    "sticky": lambda env: StickyAction(env, 0.2),
    "guarded": lambda env: ResumableEnv(GuardedEnv(env)),
    "check-nan": lambda env: VecCheckNan(VecMonitor(DummyVecEnv([lambda: env]))),
}


@pytest.mark.parametrize("wrapped", HANDED_ON.values(), ids=HANDED_ON.keys())
def test_what_hands_observations_and_actions_on_keeps_the_symmetry(
    wrapped: Callable[[Env], Any],
) -> None:
    assert symmetry_of(wrapped(told("offset"))) == TASKS["offset"].symmetry()


def test_a_subclass_of_a_known_wrapper_is_carried_as_that() -> None:
    assert_carried("image", Flat)


def namesake(base: type[Any], name: str, **methods: Any) -> type[Any]:
    """A class of the user's own, under the name of one that is known."""
    return type(name, (base,), methods)


def shifted_step(self: Any, action: Any) -> Any:
    observation, *rest = self.env.step(action)
    return (observation + 1, *rest)


def column_by_column(self: Any, observation: Any) -> Any:
    return observation[::-1]


def other_functions(env: Env) -> Env:
    wrapped = FlattenObservation(env)
    wrapped.func = lambda observation: np.asarray(observation)[::-1]
    return wrapped


def other_space(env: Env) -> Env:
    wrapped = Doubled(env)
    wrapped.observation_space = spaces.Box(0, 7, (3,))
    return wrapped


class Mixin(gym.Wrapper[Any, Any, Any, Any]):
    step = shifted_step


def patched(env: Env) -> Env:
    wrapped = Monitor(env)
    vars(wrapped)["step"] = lambda action: shifted_step(wrapped, action)
    return wrapped


CHANGED: dict[str, Callable[[Env], Any]] = {
    "own-Monitor": namesake(gym.Wrapper, "Monitor", step=shifted_step),
    "own-FlattenObservation": namesake(
        gym.ObservationWrapper, "FlattenObservation", observation=column_by_column
    ),
    "own-GuardedEnv": namesake(gym.Wrapper, "GuardedEnv", step=shifted_step),
    "monitor-with-own-step": namesake(Monitor, "Monitor", step=shifted_step),
    "flatten-with-own-observation": namesake(
        FlattenObservation, "FlattenObservation", observation=column_by_column
    ),
    "reward-wrapper-with-own-space": namesake(
        gym.RewardWrapper, "Mine", observation_space=spaces.Box(0, 7, (3,)), reward=abs
    ),
    "mixed-in": type("Mixed", (Mixin, CountingMonitor), {}),
    "mixed-in-after": type("Mixed", (CountingMonitor, Mixin), {}),
    "guarded-with-own-step": namesake(GuardedEnv, "GuardedEnv", step=shifted_step),
    "function-of-its-own": other_functions,
    "space-of-its-own": other_space,
    "patched-object": patched,
}


@pytest.mark.parametrize("wrapped", CHANGED.values(), ids=CHANGED.keys())
def test_what_may_change_observations_is_refused_whatever_its_name(
    wrapped: Callable[[Env], Any],
) -> None:
    env = wrapped(told("offset"))
    with pytest.raises(SymmetryError, match=rf"{type(env).__name__}\.carry_symmetry") as caught:
        symmetry_of(env)
    assert "\n" not in str(caught.value)


class Turned(VecTransposeImage):
    @staticmethod
    def transpose_image(image: Any) -> Any:
        return np.swapaxes(VecTransposeImage.transpose_image(image), -1, -2)


def test_a_method_that_a_known_wrapper_calls_may_not_be_another() -> None:
    images = spaces.Box(0, 255, (6, 6, 3), np.uint8)
    flipped = {"m": (np.fliplr, [1, 0])}

    class Images(gym.Env[Any, Any]):
        observation_space, action_space = images, spaces.Discrete(2)

    envs = Turned(DummyVecEnv([lambda: SymmetryWrapper(Images(), flipped)]))
    with pytest.raises(SymmetryError, match="Turned defines transpose_image in its own way"):
        symmetry_of(envs)


class Halved(gym.ObservationWrapper[Any, Any, Any]):
    """A user's wrapper that says how it carries."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        space = env.observation_space
        self.observation_space = spaces.Box(space.low / 2, space.high / 2)

    def observation(self, observation: Any) -> Any:
        return observation / np.float32(2)

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        return lifted(symmetry, self.observation_space, lambda g: lambda s: g(2 * s) / 2)


class QuarteredByAccident(Halved):
    """Inherits what no longer holds."""

    def observation(self, observation: Any) -> Any:
        return super().observation(observation) / 2


class VecNegative(VecEnvWrapper):
    """A user's vectorized wrapper that says how it carries."""

    def reset(self) -> Any:
        return -self.venv.reset()

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        return (-observations, *rest)

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        return lifted(symmetry, self.observation_space, lambda g: lambda s: -g(-s))


@pytest.mark.parametrize("name", ["vector", "offset", "turn"])
def test_a_users_wrapper_says_how_it_carries(name: str) -> None:
    assert_carried(name, Halved)


def test_a_users_vectorized_wrapper_says_how_it_carries() -> None:
    envs = VecNegative(DummyVecEnv([lambda: told("signs")]))
    assert symmetry_of(envs) == TASKS["signs"].symmetry()


def test_what_a_wrapper_says_is_not_believed_of_a_subclass_that_changes_more() -> None:
    with pytest.raises(SymmetryError, match="QuarteredByAccident defines observation"):
        symmetry_of(QuarteredByAccident(told("offset")))


@pytest.mark.parametrize("answer", [None, "g", TASKS["signs"].symmetry()])
def test_a_wrapper_that_says_what_is_no_symmetry_of_its_spaces_is_refused(answer: Any) -> None:
    kind = namesake(Halved, "Wrong", carry_symmetry=lambda self, symmetry: answer)
    with pytest.raises(SymmetryError, match=r"Wrong\.carry_symmetry "):
        symmetry_of(kind(told("offset")))


def test_the_trivial_group_passes_every_wrapper() -> None:
    def trivial() -> Env:
        return SymmetryWrapper(told("offset").unwrapped, {})

    for wrapped in (
        CHANGED["own-Monitor"](trivial()),
        RescaleObservation(trivial(), np.zeros(3, "f"), np.array([1, 2, 3], "f")),
        VecNormalize(DummyVecEnv([trivial])),
    ):
        symmetry = symmetry_of(wrapped)
        assert symmetry.group.order == 1
        assert symmetry.observation_space == wrapped.observation_space
    envs = gym.vector.SyncVectorEnv([trivial] * 3)
    for vectorized in (envs, vector_wrappers.RecordEpisodeStatistics(envs)):
        assert symmetry_of(vectorized) == symmetry_of(trivial())


def test_some_keys_of_a_dict_move_as_they_did_among_all() -> None:
    assert_carried("dict-of-boxes", lambda env: FilterObservation(env, ["speed", "image"]))
    envs = VecExtractDictObs(DummyVecEnv([lambda: told("dict-of-boxes")]), "speed")
    moved = symmetry_of(envs).transform_observation("g", np.array([1.0, -2.0], "f"))
    np.testing.assert_array_equal(moved, [-1, 2])


def test_a_key_that_changes_places_with_another_is_not_taken_out_alone() -> None:
    space = spaces.Dict(left=spaces.Box(-1, 1, (2,)), right=spaces.Box(-1, 1, (2,)))

    class Sides(gym.Env[Any, Any]):
        observation_space, action_space = space, spaces.Discrete(2)

    def swap(s: Any) -> Any:
        return {"left": s["right"], "right": s["left"]}

    def make() -> Env:
        return SymmetryWrapper(Sides(), {"swap": (swap, [1, 0])})

    for outside in (
        FilterObservation(make(), ["left"]),
        VecExtractDictObs(DummyVecEnv([make]), "left"),
    ):
        with pytest.raises(SymmetryError, match=r"\['left'\] together with right"):
            symmetry_of(outside)


def test_sb3s_sticky_actions_begin_with_action_0_which_must_stay() -> None:
    def sticky(permutation: list[int]) -> Env:
        game: Any = told("signs").unwrapped
        game.get_action_meanings = lambda: ["NOOP", "FIRE"]
        return StickyActionEnv(SymmetryWrapper(game, {"g": (np.negative, permutation)}), 0.2)

    assert symmetry_of(sticky([0, 1])).group.order == 2
    with pytest.raises(SymmetryError, match="action 0, which g moves"):
        symmetry_of(sticky([1, 0]))


@pytest.mark.parametrize("name", ["image", "negative-image"])
def test_stacked_images_move_as_one_image(name: str) -> None:
    def wrapped(env: Env) -> Env:
        return FramesAsChannels(FrameStackObservation(env, 3))

    assert_carried(name, wrapped)
    shown, _ = wrapped(told(name)).reset()
    single, _ = told(name).reset()
    np.testing.assert_array_equal(shown, np.concatenate([np.moveaxis(single, 2, 0)] * 3))


def test_frames_as_sb3_stacks_and_turns_them_are_the_same_image() -> None:
    ours = FramesAsChannels(FrameStackObservation(told("image"), 3))
    theirs = VecFrameStack(DummyVecEnv([lambda: told("image")]), 3)
    theirs.reset()
    ours.reset()
    for _ in range(2):
        stacked, *_ = theirs.step(np.array([0]))
        shown, *_ = ours.step(0)
    np.testing.assert_array_equal(shown, np.moveaxis(stacked[0], 2, 0))
