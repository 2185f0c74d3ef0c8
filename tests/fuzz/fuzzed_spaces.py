"""Environments that return what they should not, agents on other spaces, arrays of any dtype."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from hypothesis import strategies as st
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN
from equirl.envs import SymmetryWrapper
from equirl.envs.running.guarded import GuardedEnv
from equirl.errors import EquirlError, RunError
from fuzz.guarded import check_message, comes_to_an_end
from shared.sampled import Sampled, q_values

PARTS: dict[str, spaces.Space[Any]] = {
    "floats": spaces.Box(-2, 2, (2,), np.float32),
    "doubles": spaces.Box(-2, 2, (2,), np.float64),
    "numbers": spaces.Box(-9, 9, (2,), np.int32),
    "bytes": spaces.Box(0, 255, (2,), np.uint8),
    "choice": spaces.Discrete(3),
    "another choice": spaces.Discrete(4),
    "choices": spaces.MultiDiscrete([2, 3]),
    "other choices": spaces.MultiDiscrete([3, 2]),
    "bits": spaces.MultiBinary(2),
}
VALUES: list[Any] = [
    None, "text", "", object(), [], [1], [1, 2], (1.5, 2), [[1, 2], [3]], 1, 1.5, -1, 300, 2**70,
    True, 1j, math.nan, math.inf, {}, {"x": 1}, np.array(None), np.array([None, 1]), b"bytes",
    np.array([0.5, 1], object), np.array([1, 1], np.int64), np.array([1.5, 1]), np.zeros((2, 1)),
    np.zeros(0), np.array([math.nan, 0]), np.array([1e300, 0]), np.array([-1, 1]),
    np.array(["a", "b"]),
    np.array([True, False]), np.array(1), np.array([1]), np.ma.masked_array([1, 2], [0, 1]),
    torch.ones(2), np.float32(1), np.datetime64("2020"), set(), lambda: 1,
]  # fmt: skip


def _spaces() -> st.SearchStrategy[spaces.Space[Any]]:
    names = st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=3, unique=True)
    whole = names.map(lambda chosen: spaces.Dict([(name, PARTS[name]) for name in chosen]))
    return st.one_of(st.sampled_from(list(PARTS.values())), whole)


@st.composite
def returned(draw: st.DrawFn) -> tuple[spaces.Space[Any], Any]:
    """An observation space, and what ``step`` returns."""
    space = draw(_spaces())
    anything = st.sampled_from(VALUES)
    observation: Any = space.sample()
    if isinstance(space, spaces.Dict):
        how = draw(st.integers(0, 4))
        if how == 0:
            observation = draw(anything)
        elif how == 1:
            del observation[draw(st.sampled_from(sorted(observation)))]
        else:
            observation[draw(st.sampled_from([*observation, "more", 3]))] = draw(anything)
    elif draw(st.booleans()):
        observation = draw(anything)
    usual = [observation, 1.0, False, False, {}]
    result = [value if draw(st.integers(0, 3)) else draw(anything) for value in usual]
    result = result[: draw(st.sampled_from([5, 5, 5, 5, 4, 0]))]
    return space, draw(st.sampled_from([tuple, tuple, tuple, list]))(result)


class Returning(gym.Env[Any, Any]):
    """An environment whose ``step`` returns what it was given."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any], result: Any) -> None:
        self.observation_space, self.result = space, result

    def step(self, action: Any) -> Any:
        return self.result


def play(space: spaces.Space[Any], result: Any) -> bool:
    """What comes out of `GuardedEnv` is of the environment's spaces, or refused in one line."""
    with comes_to_an_end():
        try:
            observation, reward, *flags, info = GuardedEnv(Returning(space, result)).step(0)
        except RunError as error:
            check_message(error)
            return False
    parts = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    seen = observation if isinstance(space, spaces.Dict) else {None: observation}
    assert list(seen) == list(parts)
    for key, part in parts.items():
        array = np.asarray(seen[key])
        assert (array.dtype, array.shape) == (part.dtype, part.shape)
        assert np.isfinite(array).all()
        # Bounds of a Box are the environment's affair.
        assert isinstance(part, spaces.Box) or part.contains(seen[key])
    assert type(reward) is float
    assert math.isfinite(reward)
    assert all(type(flag) is bool for flag in flags)
    assert type(info) is dict
    return True


NAMES = ["a", "b", "c"]
SOME = [PARTS[name] for name in ("floats", "bytes", "choice", "bits", "choices", "other choices")]


@cache
def _plain(parts: tuple[int, ...]) -> tuple[DQN, bytes]:
    space = spaces.Dict([(NAMES[i], SOME[part]) for i, part in enumerate(parts)])
    small: dict[str, Any] = {"policy_kwargs": {"net_arch": [3]}, "buffer_size": 1, "device": "cpu"}
    model = DQN("MultiInputPolicy", Sampled(space), **small)
    file = io.BytesIO()
    model.save(file)
    return model, file.getvalue()


Taken = tuple[tuple[int, ...], list[tuple[str, int]]]


@st.composite
def taken_over(draw: st.DrawFn) -> Taken:
    """The parts of an agent's ``Dict``, and the keys and parts of the one that it is put on."""
    which = st.integers(0, len(SOME) - 1)
    parts = tuple(draw(st.lists(which, min_size=1, max_size=3)))
    now = draw(st.permutations(list(zip(NAMES, parts, strict=False))))
    how = draw(st.integers(0, 3))
    if how == 1:  # renamed, or one fewer
        keys = draw(st.permutations([*NAMES, "d"]))
        now = [(key, part) for key, (_, part) in zip(keys, now, strict=False)]
    elif how == 2:
        now[0] = (now[0][0], draw(which))
    elif how == 3 and len(now) > 1:
        now.pop()
    return parts, now


def take_over(parts: tuple[int, ...], now: list[tuple[str, int]]) -> bool:
    """An agent on a ``Dict`` in another order gives the same Q-values; other spaces are refused."""
    plain, content = _plain(parts)
    space = spaces.Dict([(key, SOME[part]) for key, part in now])
    env = SymmetryWrapper(Sampled(space), {})
    same = dict(now) == dict(zip(NAMES, parts, strict=False))
    refusal = ours = None
    with tempfile.TemporaryDirectory() as folder, comes_to_an_end():
        path = Path(folder) / "agent.zip"
        path.write_bytes(content)
        try:
            ours = EquivariantDQN.from_pretrained(path, env, buffer_size=1, device="cpu")
        except EquirlError as error:
            check_message(error)
            refusal = error
    assert same == (refusal is None), f"{now} for {parts}: {refusal}"
    if ours is None:
        return False
    seen = {key: np.stack([part] * 2) for key, part in space.sample().items()}
    torch.testing.assert_close(q_values(ours, seen), q_values(plain, seen))
    return True


C, S = 0.5, 0.75**0.5
MOVED: dict[str, tuple[spaces.Space[Any], Any]] = {
    "floats": (PARTS["floats"], np.array([[C, -S], [S, C]])),
    "doubles": (PARTS["doubles"], np.array([[C, -S], [S, C]])),
    "numbers": (PARTS["numbers"], np.array([[0, -1], [1, 0]])),
    "bytes": (PARTS["bytes"], lambda s: s[::-1]),
}
GIVEN: dict[str, Callable[[Any], Any]] = {
    "integers": lambda s: s.astype(np.int64),
    "small integers": lambda s: s.astype(np.int16),
    "doubles": lambda s: s.astype(np.float64),
    "objects": lambda s: s.astype(object),
    "reversed view": lambda s: s[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda s: s.astype(s.dtype.newbyteorder(">")),
}


NOT_FOR_TORCH = ("objects", "big-endian")
"""Which SB3 hands to torch, which refuses them."""


@cache
def _moved(name: str) -> EquivariantDQN:
    space, move = MOVED[name]
    order = 6 if name in ("floats", "doubles") else 4 if name == "numbers" else 2
    env = SymmetryWrapper(Sampled(space, order), {"g": (move, [*range(1, order), 0])})
    small: dict[str, Any] = {"policy_kwargs": {"net_arch": [3]}, "buffer_size": 1, "device": "cpu"}
    return EquivariantDQN("MlpPolicy", env, **small)


def observations() -> st.SearchStrategy[tuple[str, str, list[int]]]:
    """A kind of space, a kind of array, and whole numbers that both can hold."""
    whole = st.lists(st.integers(0, 2), min_size=2, max_size=2)
    return st.tuples(st.sampled_from(sorted(MOVED)), st.sampled_from(sorted(GIVEN)), whole)


def observe(name: str, kind: str, numbers: list[int]) -> bool:
    """Equal numbers are moved alike and have equal Q-values, whatever array they come in."""
    model = _moved(name)
    exact = np.array([numbers], model.observation_space.dtype)
    with comes_to_an_end():
        given = GIVEN[kind](exact)
        for array, wanted in ((given, exact), (given[0], exact[0])):
            moved = model.symmetry.transform_observation("g", array)
            expected = model.symmetry.transform_observation("g", wanted)
            np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-5)
        if kind not in NOT_FOR_TORCH:
            torch.testing.assert_close(q_values(model, given), q_values(model, exact))
    return True
