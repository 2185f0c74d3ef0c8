"""An agent is taken over by the spaces in its file, the order of a Dict's keys included."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN
from equirl.agents.saving.reading.inert_pickles import Inert, read_inertly
from equirl.agents.saving.reading.saved_spaces import read_space
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.sampled import Sampled, q_values, raw_observations

TWO = spaces.Box(-1, 1, (2,))
PARTS: dict[str, spaces.Space[Any]] = {
    "speed": TWO,
    "cell": spaces.Discrete(5),
    "view": spaces.Box(0, 255, (36, 36, 1), np.uint8),
    "bits": spaces.MultiBinary(3),
}
SPACES: list[spaces.Space[Any]] = [
    spaces.Box(-1, np.inf, (3, 2), np.float64),
    spaces.Box(0, 255, (4, 4, 3), np.uint8),
    spaces.Discrete(5, start=2),
    spaces.Discrete(2, dtype=np.int32),
    spaces.MultiDiscrete([3, 5], np.int16),
    spaces.MultiBinary(4),
    spaces.MultiBinary((2, 3)),
    spaces.Dict([("b", TWO), ("a", spaces.Discrete(3))]),
]


def described(space: object) -> dict[str, Any]:
    """As SB3 writes an object."""
    return {":type:": str(type(space)), ":serialized:": base64.b64encode(cloudpickle.dumps(space))}


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_saved_space_comes_back_equal(space: spaces.Space[Any]) -> None:
    space.sample()  # with a random generator in its pickle
    read = read_space(described(space))
    assert read.space == space
    assert read.equals(space)
    assert [other for other in SPACES if read.equals(other)] == [space]
    if isinstance(space, spaces.Dict):
        assert list(read.space) == list(space)  # type: ignore[call-overload]


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "witness",)

    assert isinstance(read_inertly(cloudpickle.dumps(Trap())), Inert)
    assert read_space(described(Trap())).space is None
    assert isinstance(read_inertly(pickle.dumps(eval)), type)
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("order", [["view", "bits", "speed", "cell"], ["cell", "speed", "bits"]])
def test_keys_in_another_order_give_the_same_q_values(order: list[str], tmp_path: Path) -> None:
    then = spaces.Dict([(key, PARTS[key]) for key in sorted(order)])
    now = spaces.Dict([(key, PARTS[key]) for key in order])
    for arch in ([], [16]):
        kwargs = {"net_arch": arch, "features_extractor_kwargs": {"cnn_output_dim": 7}}
        plain = DQN("MultiInputPolicy", Sampled(then), buffer_size=1, policy_kwargs=kwargs)
        plain.save(tmp_path / "agent.zip")
        seen = raw_observations(then)
        env = SymmetryWrapper(Sampled(now), {})
        ours = EquivariantDQN.from_pretrained(tmp_path / "agent.zip", env, buffer_size=1)
        again = restore(read_agent(tmp_path / "agent.zip"), Sampled(now))
        for model, has in ((ours, order), (again, sorted(order))):
            assert list(model.observation_space) == has  # type: ignore[call-overload]
            torch.testing.assert_close(q_values(model, seen), q_values(plain, seen))
            assert torch.equal(model.q_net_target.q_net[0].weight, model.q_net.q_net[0].weight)


def test_keys_of_other_names_are_refused(tmp_path: Path) -> None:
    then = spaces.Dict(a=TWO, b=TWO)
    DQN("MultiInputPolicy", Sampled(then), buffer_size=1).save(tmp_path / "agent.zip")
    with pytest.raises(AgentError, match=r"'a': Box.* the environment has Dict\('a'.*'c'"):
        read_agent(tmp_path / "agent.zip").build(DQN, Sampled(spaces.Dict(a=TWO, c=TWO)))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_actions_of_any_dtype_are_restored(dtype: Any, tmp_path: Path) -> None:
    env: Any = Sampled(spaces.Box(-1, 1, (4,)))
    env.action_space = spaces.Discrete(2, dtype=dtype)
    env = SymmetryWrapper(env, {"mirror": (np.negative, [1, 0])})
    model = EquivariantDQN("MlpPolicy", env, buffer_size=1)
    model.save(tmp_path / "agent.zip")
    seen = raw_observations(env.observation_space)
    for there in (env, None):
        again = restore(read_agent(tmp_path / "agent.zip"), there)
        assert again.action_space == env.action_space
        assert torch.equal(q_values(again, seen), q_values(model, seen))
