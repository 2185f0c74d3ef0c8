"""What an environment hands out is brought to its spaces, or refused in one line that names it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from equirl.envs.running.guarded import GuardedEnv
from equirl.errors import RunError

BOX = spaces.Box(-1, 1, (2,), np.float32)
BYTES = spaces.Box(0, 255, (2, 2), np.uint8)
BOTH = spaces.Dict(place=spaces.Discrete(5), speed=BOX)


class Saying(gym.Env[Any, Any]):
    """Hands out what it is told."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any], observation: Any, *rest: Any) -> None:
        self.observation_space = space
        self.observation = observation
        self.rest = rest or (0.0, False, False, {})

    def reset(self, **arguments: Any) -> Any:
        return self.observation, {}

    def step(self, action: Any) -> Any:
        return (self.observation, *self.rest)


LOSSLESS: dict[str, tuple[spaces.Space[Any], Any, Any]] = {
    "integers": (BOX, np.array([1, 0]), np.array([1, 0], "f")),
    "list": (BOX, [0.5, -0.5], np.array([0.5, -0.5], "f")),
    "objects": (BOX, np.array([0.25, 1], object), np.array([0.25, 1], "f")),
    "double": (BOX, np.array([0.1, 1]), np.array([0.1, 1], "f")),
    "bool": (BOX, np.array([True, False]), np.array([1, 0], "f")),
    "whole-floats": (BYTES, np.full((2, 2), 7.0), np.full((2, 2), 7, np.uint8)),
    "place": (spaces.Discrete(5), 3, np.int64(3)),
    "binary": (spaces.MultiBinary(3), [1, 0, 1], np.array([1, 0, 1], np.int8)),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_what_means_the_same_is_brought_to_the_space(name: str) -> None:
    space, came, wanted = LOSSLESS[name]
    env = GuardedEnv(Saying(space, came))
    for observation in (env.reset()[0], env.step(0)[0]):
        np.testing.assert_array_equal(observation, wanted)
        assert observation.dtype == space.dtype
        assert space.contains(observation)


def test_a_dict_is_brought_to_its_space_key_by_key() -> None:
    observation, _ = GuardedEnv(Saying(BOTH, {"speed": [1, 0], "place": 2})).reset()
    assert BOTH.contains(observation)
    assert list(observation) == ["place", "speed"]


REFUSED: dict[str, tuple[spaces.Space[Any], Any, str]] = {
    "nothing": (BOX, None, "None"),
    "nan": (BOX, np.array([np.nan, 1], "f"), r"\[0\] is nan"),
    "nan-objects": (BOX, np.array([1.0, np.nan], object), r"\[1\] is nan"),
    "objects": (BOX, np.array([None, {}], object), r"None"),
    "text": (BOX, "ab", "'ab'"),
    "shape": (BOX, np.zeros(3, "f"), r"shape \(3,\), not Box"),
    "column": (BOX, np.zeros((2, 1), "f"), r"shape \(2, 1\)"),
    "ragged": (BOX, [[1, 2], 3], r"\[\[1, 2\], 3\]"),
    "fractions": (BYTES, np.full((2, 2), 0.5), "float64"),
    "too-large": (BYTES, np.full((2, 2), 256), "int64"),
    "overflow": (BOX, np.array([1e300, 0]), r"1\.e\+300"),
    "value": (spaces.Discrete(5), 5, "5, not Discrete"),
    "no-dict": (BOTH, np.zeros(3), r"not Dict"),
    "missing-key": (BOTH, {"speed": np.zeros(2, "f")}, r"keys \['speed'\]"),
    "other-key": (BOTH, {"speed": [0, 0], "place": 1, "more": 1}, r"'more'"),
    "key-shape": (BOTH, {"speed": np.zeros(3, "f"), "place": 1}, r"\['speed'\].*shape \(3,\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_of_the_space_is_named_in_one_line(name: str) -> None:
    space, came, message = REFUSED[name]
    env = GuardedEnv(Saying(space, came))
    for play, where in ((env.reset, r"reset\(\)"), (lambda: env.step(1), r"step\(1\)")):
        with pytest.raises(RunError, match=f"Saying gave an observation.*{message}.* in {where}"):
            play()


@pytest.mark.parametrize(
    ("reward", "wanted"), [(1, 1.0), ([2.0], 2.0), (np.array([[3]]), 3.0), (np.float32(0.5), 0.5)]
)
def test_a_reward_that_is_one_number_is_taken(reward: Any, wanted: float) -> None:
    result = GuardedEnv(Saying(BOX, BOX.sample(), reward, np.False_, np.array([1]), None)).step(0)
    assert result[1:] == (wanted, False, True, {})
    assert [type(part) for part in result[1:]] == [float, bool, bool, dict]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ((None, False, False, {}), "the reward None"),
        (([1.0, 2.0], False, False, {}), r"the reward \[1.0, 2.0\]"),
        (("1", False, False, {}), "the reward '1'"),
        ((np.inf, False, False, {}), "the reward inf"),
        ((0.0, None, False, {}), "terminated = None"),
        ((0.0, False, 2, {}), "truncated = 2"),
        ((0.0, False, False, [1]), r"the info \[1\]"),
        ((0.0, False, {}), r"4 values, where \(observation, reward, "),
    ],
)
def test_what_else_a_step_must_give_is_named_too(rest: Any, message: str) -> None:
    with pytest.raises(RunError, match=rf"Saying gave {message}.* in step\(0\)"):
        GuardedEnv(Saying(BOX, BOX.sample(), *rest)).step(0)


def test_a_reset_of_the_old_kind_is_named() -> None:
    env = Saying(BOX, BOX.sample())
    env.reset = lambda **arguments: env.observation  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"gave ndarray, where \(observation, info\)"):
        GuardedEnv(env).reset()
