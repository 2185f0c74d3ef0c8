"""Agents that are none, or do not suit, are refused: one line, and nothing left behind."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents import from_pretrained
from equirl.commands import main
from shared.rarely import rarely
from shared.refusals import Refused


@pytest.fixture
def agents(folder: Path, plain_agent: Path) -> Path:
    """Agents that are none, in the current folder."""
    whole = plain_agent.read_bytes()
    (folder / "text.zip").write_text("This is not a zip file.\n")
    (folder / "empty.zip").write_bytes(b"")
    (folder / "truncated.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(plain_agent) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        offset = archive.getinfo("policy.pth").header_offset
    damaged = bytearray(whole)
    damaged[offset + 600 : offset + 700] = bytes(100)
    assert damaged != whole
    (folder / "damaged.zip").write_bytes(damaged)
    (folder / "folder.zip").mkdir()
    for name, replaced in (("other", None), ("no_json", b'{"gamma": 0.9'), ("whole", b"{}")):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            if replaced is None:
                archive.writestr("holiday.jpg", b"sand")
                continue
            for member, content in members.items():
                archive.writestr(member, replaced if member == "data" else content)
    assert json.loads(members["data"])
    car = {"buffer_size": 1, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    DQN("MlpPolicy", "MountainCar-v0", **car).save(folder / "car.zip")
    return folder


@pytest.mark.parametrize("command", rarely(["evaluate", "transfer"], "transfer"))
def test_agent_that_is_none_is_refused(refused: Refused, agents: Path, command: str) -> None:
    rest = ("env=cartpole", "episodes=2", "progress=false")
    for agent, said in {
        "missing.zip": "there is no agent at missing.zip",
        "folder.zip": "there is no agent at folder.zip",
        "text.zip": "text.zip is damaged or not a zip",
        "empty.zip": "empty.zip is damaged or not a zip",
        "truncated.zip": "truncated.zip is damaged or not a zip",
        "damaged.zip": "damaged.zip is damaged",
        "no_json.zip": "no_json.zip is damaged",
        "other.zip": "other.zip is not a Stable-Baselines3 agent",
        "car.zip": "car.zip was made for the observations Box(",
    }.items():
        assert said in refused(command, f"agent={agent}", *rest)
    assert "which agent? Say agent=PATH" in refused(command, *rest)
    assert "which agent? Say agent=PATH" in refused(command, "agent=", *rest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "env=cartpole", "transform=nonsense"), "transform=all, or one of e, mirror"),
        (("evaluate", "env=cartpole", "transform="), "transform=all, or one of e, mirror"),
        (("evaluate", "env=cartpole", "episodes=0"), "episodes must be at least 1, got 0"),
        (("evaluate", "env=cartpole", "seed=-1"), "seed must be at least 0, got -1"),
        (("evaluate", "env=cartpole", "threads=0"), "threads must be at least 1, got 0"),
        (("evaluate",), "say env=NAME or env.id=ID"),
        (("evaluate", "env=gridworld"), "was made for the observations Box("),
        (("transfer",), "is not in a run directory that names its environment: say env=NAME"),
        (("transfer", "env=cartpole", "episodes=1"), "episodes must be at least 2, got 1"),
        (("transfer", "env=cartpole", "methods=[foo]"), "methods: 'foo' is unknown, say one of eq"),
        (("transfer", "env=cartpole", "methods=[relaxed]"), "methods: 'relaxed' is unknown"),
        (
            ("transfer", "env=cartpole", "stage=zero_shot", "methods=[]", "betas=[]"),
            "methods: name at least one of equitune",
        ),
        (("transfer", "env=cartpole", "stage=best"), "stage: 'best' is unknown, say one of zero_s"),
        (("transfer", "env=cartpole", "betas=[1,inf]"), "betas must be finite, got inf"),
        (("transfer", "env=cartpole", "weights.steps=10"), "weights.steps must be at least 1000"),
        (("transfer", "env=cartpole", "finetune.every=0"), "finetune.every must be at least 1"),
        (("transfer", "env=cartpole", "finetune.method=x"), "finetune.method: 'x' is unknown"),
        (
            ("transfer", "env=cartpole", "finetune.learning_rate=0"),
            "finetune.learning_rate must be above 0, auto or null, got 0",
        ),
        (("transfer", "env=cartpole", "finetune.n_steps=0"), "finetune.n_steps must be at least 1"),
        (
            ("transfer", "env=cartpole", "finetune.exploration_initial_eps=2"),
            "finetune.exploration_initial_eps must lie in [0, 1], got 2.0",
        ),
        (("transfer", "env=cartpole", "learning_seed=-1"), "learning_seed must be at least 0"),
        (("transfer", "env=cartpole", "methods=equitune"), "methods: expected a list"),
        (("transfer", "env.id=MountainCar-v0"), "no symmetry is known for MountainCar-v0"),
    ],
)
def test_what_does_not_suit_the_agent_is_refused(
    refused: Refused, plain_agent: Path, arguments: tuple[str, ...], said: str
) -> None:
    rest = [] if any(a.startswith("episodes=") for a in arguments) else ["episodes=2"]
    assert said in refused(*arguments, f"agent={plain_agent}", "progress=false", *rest)


def test_run_whose_configuration_is_unreadable_is_refused(
    refused: Refused, folder: Path, plain_agent: Path
) -> None:
    for text in ("env: 5\n", "{}\n", "env: {no_such_key: 1}\n", "env: [\n"):
        (folder / "config.yaml").write_text(text)
        (folder / "best_model.zip").write_bytes(plain_agent.read_bytes())
        assert "config.yaml" in refused("evaluate", "agent=best_model.zip", "progress=false")


@pytest.fixture
def behind_statistics(folder: Path) -> Path:
    """A PPO agent trained behind `VecNormalize`, and files that are not its statistics."""
    behind = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    model = PPO("MlpPolicy", behind, n_steps=8, batch_size=8, device="cpu")
    model.learn(16).save(folder / "agent.zip")
    behind.save("statistics.pkl")
    whole = Path("statistics.pkl").read_bytes()
    Path("truncated.pkl").write_bytes(whole[:-40])
    Path("malicious.pkl").write_bytes(pickle.dumps(Witness()))
    other = VecNormalize(DummyVecEnv([lambda: gym.make("Acrobot-v1")]))
    other.save("other.pkl")
    return folder


class Witness:
    """Whose pickle makes a file when it is run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("witness"),)


@pytest.mark.parametrize("command", rarely(["evaluate", "transfer"], "transfer"))
def test_statistics_that_are_not_the_agents_are_refused_and_not_run(
    refused: Refused, behind_statistics: Path, command: str
) -> None:
    rest = ("agent=agent.zip", "env=cartpole", "episodes=2", "progress=false")
    assert "was trained behind VecNormalize" in refused(command, *rest)
    for file, said in {
        "missing.pkl": "there are no statistics at missing.pkl",
        "truncated.pkl": "truncated.pkl is damaged",
        "malicious.pkl": "malicious.pkl does not hold a VecNormalize",
        "other.pkl": "has statistics of observations of shape (6,)",
    }.items():
        assert said in refused(command, f"normalize={file}", *rest)
    assert "normalize must be a file" in refused(command, "normalize=3", *rest)
    acrobot = ("normalize=statistics.pkl", *rest[:1], "env=acrobot", *rest[2:])
    assert "was made for the observations Box(" in refused(command, *acrobot)
    assert not (behind_statistics / "witness").exists()


def test_statistics_that_lie_beside_the_agent_are_noticed(
    refused: Refused, behind_statistics: Path
) -> None:
    Path("statistics.pkl").rename("vecnormalize.pkl")
    rest = ("agent=agent.zip", "env=cartpole", "episodes=2", "progress=false")
    assert "normalize='vecnormalize.pkl'" in refused("evaluate", *rest)
    # But not where they are part of the network already.
    made = from_pretrained("agent.zip", "CartPole-v1", normalize="vecnormalize.pkl", device="cpu")
    made.save("made.zip")
    main(["evaluate", "agent=made.zip", *rest[1:]])


def test_a_configuration_of_rl_zoo_tells_that_statistics_are_missing(
    refused: Refused, plain_agent: Path, folder: Path
) -> None:
    (folder / "agent.zip").write_bytes(plain_agent.read_bytes())
    (folder / "agent").mkdir()
    rest = ("agent=agent.zip", "env=cartpole", "episodes=2", "progress=false")
    text = (
        "!!python/object/apply:collections.OrderedDict\n- - - gamma\n    - 0.9\n  - - normalize\n"
    )
    (folder / "agent" / "config.yml").write_text(f"{text}    - true\n")
    assert "was trained behind VecNormalize" in refused("evaluate", *rest)
