"""Saved agents that are damaged, hold code, or were made for something else are refused."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO

from equirl.agents import EquivariantDQN
from equirl.agents.saving.saved_agent import read_agent
from equirl.errors import AgentError
from shared.sampled import Sampled, q_values, raw_observations
from shared.saved_agents import IMAGE, MIXED, VECTOR, Doubled, rewritten, saved


def read_and_build(path: Path, env: Any) -> None:
    agent = read_agent(path)
    if env is not None:
        agent.build(DQN, env, buffer_size=1, device="cpu")


def refusal(path: Path, env: Any = None) -> str:
    """The message with which an agent is refused; always one line."""
    with pytest.raises(AgentError) as caught:
        read_and_build(path, env)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "there is no agent at" in refusal(tmp_path / "nothing.zip")
    assert "give the .zip that model.save wrote" in refusal(tmp_path)


def test_files_that_are_no_agents_are_refused(tmp_path: Path) -> None:
    _, path, _ = saved("default", tmp_path)
    whole = path.read_bytes()
    contents = {
        "damaged or not a zip": [
            b"",
            b"dear reader,\nthis is text\n",
            whole[: len(whole) // 100],
            rewritten(path, data=b"{\n\nnot json"),
            rewritten(path, policy_pth=b""),
            rewritten(path, policy_pth=b"hello"),
            rewritten(path, policy_pth=zipfile.ZipFile(path).read("policy.pth")[:2000]),
        ],
        "is damaged": [rewritten(path, data=b"[]")],
        "is not a Stable-Baselines3 agent: it holds": [
            rewritten(path, policy_pth=None),
            rewritten(path, data=None),
        ],
        "is not an agent of an algorithm that equirl knows: its policy has no q_net.q_net": [
            rewritten(path, policy_pth=pickled({"actor.0.weight": torch.ones(2, 2)})),
        ],
        "is not a Stable-Baselines3 agent: its policy.pth is not a dict of tensors": [
            rewritten(path, policy_pth=pickled([1, 2])),
            rewritten(path, policy_pth=pickled({"q_net.q_net.0.weight": 3})),
            rewritten(path, policy_pth=pickled({0: torch.ones(2, 2)})),
        ],
    }
    for message, files in contents.items():
        for content in files:
            (tmp_path / "bad.zip").write_bytes(content)
            assert message in refusal(tmp_path / "bad.zip")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_cut_off_or_with_flipped_bytes_is_refused(compression: int, tmp_path: Path) -> None:
    _, path, _ = saved("one-layer", tmp_path)
    whole = rewritten(path, compression)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(whole)
    read_agent(bad)
    draw = random.Random(0)
    for _ in range(30):
        bad.write_bytes(whole[: draw.randrange(len(whole) - 1)])
        refusal(bad)
        flipped = bytearray(whole)
        for _ in range(20):
            flipped[draw.randrange(len(flipped))] ^= draw.randrange(1, 256)
        bad.write_bytes(flipped)
        refusal(bad)


def test_no_code_in_the_weights_is_run(tmp_path: Path) -> None:
    _, path, _ = saved("default", tmp_path)
    witness = tmp_path / "witness"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    (tmp_path / "bad.zip").write_bytes(rewritten(path, policy_pth=pickled({"trap": Trap()})))
    assert "is damaged" in refusal(tmp_path / "bad.zip")
    assert not witness.exists()


def test_an_agent_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    PPO("MlpPolicy", Sampled(VECTOR), device="cpu").save(tmp_path / "ppo.zip")
    assert "is not a DQN agent" in refusal(tmp_path / "ppo.zip", Sampled(VECTOR))


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("default", Sampled(VECTOR, 3)),
        ("default", Sampled(spaces.Box(-1, 1, (4,), np.float64))),
        ("default", Sampled(spaces.Box(-2, 1, (4,)))),
        ("default", Sampled(spaces.MultiBinary(4))),
        ("default", Sampled(spaces.Discrete(4))),
        ("default", Sampled(MIXED)),
        ("default", Sampled(IMAGE)),
        ("default", gym.make("Acrobot-v1")),
        ("default", gym.make("MountainCarContinuous-v0")),
        ("dict", Sampled(VECTOR)),
        ("dict", Sampled(spaces.Dict(vector=VECTOR))),
        ("dict", Sampled(spaces.Dict(image=IMAGE, other=MIXED["vector"]))),
        ("images", Sampled(spaces.Box(0, 255, (40, 40, 1), np.uint8))),
        ("images", Sampled(spaces.Box(0, 255, (1, 36, 36), np.float32))),
        ("images", Sampled(VECTOR)),
        ("images", Sampled(IMAGE, 5)),
    ],
)
def test_an_agent_of_other_spaces_is_refused_and_both_are_named(
    name: str, env: Any, tmp_path: Path
) -> None:
    model, path, _ = saved(name, tmp_path)
    said = refusal(path, env)
    spoken = [str(model.action_space), str(env.action_space)]
    if model.action_space == env.action_space:
        spoken = [str(model.observation_space), str(env.observation_space).partition("(")[0]]
    elif "observations" in said:
        spoken = [str(model.observation_space)]
    assert all(" ".join(text.split())[:150] in said for text in spoken)


def test_other_numbers_of_a_multi_discrete_space_are_refused(tmp_path: Path) -> None:
    DQN("MlpPolicy", Sampled(spaces.MultiDiscrete([2, 4])), buffer_size=1).save(tmp_path / "a.zip")
    said = refusal(tmp_path / "a.zip", Sampled(spaces.MultiDiscrete([3, 3])))
    assert "MultiDiscrete([2 4])" in said
    assert "MultiDiscrete([3 3])" in said


def test_a_network_with_other_parts_is_refused(tmp_path: Path) -> None:
    model, path, env = saved("images", tmp_path)
    weights = {**model.policy.state_dict(), "q_net.features_extractor.more": torch.ones(1)}
    (tmp_path / "bad.zip").write_bytes(rewritten(path, policy_pth=pickled(weights)))
    assert "holds another network" in refusal(tmp_path / "bad.zip", env)


def without_pickle(path: Path, target: Path) -> None:
    """Writes the agent again, its policy_kwargs damaged."""
    data = json.loads(zipfile.ZipFile(path).read("data"))
    data["policy_kwargs"][":serialized:"] = "AAAA"
    target.write_bytes(rewritten(path, data=json.dumps(data).encode()))


@pytest.mark.parametrize("name", ["tanh", "images-and-layers", "images-from-0-to-255", "dict"])
def test_nothing_is_unpickled_where_all_classes_are_those_of_the_libraries(
    name: str, tmp_path: Path
) -> None:
    model, path, env = saved(name, tmp_path)
    without_pickle(path, tmp_path / "damaged.zip")
    built = read_agent(tmp_path / "damaged.zip").build(DQN, env, device="cpu")
    seen = raw_observations(env.observation_space)
    assert torch.equal(q_values(built, seen), q_values(model, seen))


def test_a_class_that_is_gone_can_be_given_by_hand(tmp_path: Path) -> None:
    model, path, env = saved("own-extractor", tmp_path)
    without_pickle(path, tmp_path / "gone.zip")
    assert "could run any code: give it yourself" in refusal(tmp_path / "gone.zip", env)
    policy_kwargs = {
        "features_extractor_class": Doubled,
        "features_extractor_kwargs": {"times": 3.0},
    }
    built = read_agent(tmp_path / "gone.zip").build(
        DQN, env, policy_kwargs=policy_kwargs, device="cpu"
    )
    seen = raw_observations(env.observation_space)
    assert torch.equal(q_values(built, seen), q_values(model, seen))


@pytest.mark.parametrize("path", ["", "x" * 5000, "nowhere/at/all"])
def test_a_path_that_cannot_be_a_file_is_no_agent(path: str) -> None:
    with pytest.raises(AgentError, match="there is no agent at"):
        read_agent(path)


def test_a_class_of_the_users_own_is_never_unpickled(tmp_path: Path) -> None:
    """A pickle could run any code, so the caller has to name the class."""
    _, path, env = saved("own-extractor", tmp_path)
    assert "could run any code: give it yourself" in refusal(path, env)


def test_loading_a_plain_agent_as_an_equivariant_one_points_to_from_pretrained(
    tmp_path: Path,
) -> None:
    _, path, _ = saved("default", tmp_path)
    with pytest.raises(AgentError, match=r"from_pretrained"):
        EquivariantDQN.load(path)
