"""`method=native` and `method=mirror_loss` on the command line, and what they are refused for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN

from equirl.envs import SymmetryWrapper
from shared.rarely import rarely
from shared.refusals import SHORT, Refused
from shared.sampled import Sampled
from shared.short_training import train

EVERY = ("total_timesteps=96", "eval.every=96")
NATIVE = {
    "linear": ("env=gridworld", "env.kwargs.size=5", "method.match_parameters=true"),
    "convolutions": ("env=snake", "algorithm.net_arch=[16]"),
}


def dict_env() -> gym.Env[Any, Any]:
    space = spaces.Dict(place=spaces.Box(-1, 1, (2,)))
    return SymmetryWrapper(Sampled(space), {"mirror": ({"place": np.negative}, [1, 0])})


def shifted_env() -> gym.Env[Any, Any]:
    """A picture on a ring."""
    space = spaces.Box(0, 255, (6, 6, 1), np.uint8)
    return SymmetryWrapper(Sampled(space), {"shift": (lambda x: np.roll(x, 1, axis=0), [0, 1])})


gym.register("equirl-test/Dict-v0", dict_env)
gym.register("equirl-test/Shifted-v0", shifted_env)


@pytest.fixture(scope="module", params=rarely(NATIVE, "linear"))
def agent(
    request: pytest.FixtureRequest,
    equirl_command: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(equirl_command, folder, "method=native", *NATIVE[request.param], *EVERY)
    return folder


def returns(command: Callable[..., Any], *keys: str) -> list[str]:
    outcome = command("evaluate", *keys, "progress=false", "episodes=2")
    assert outcome.code == 0, outcome.err
    return re.findall(r"(\S+ ± \S+) over", outcome.out)


@pytest.mark.long
def test_a_native_agent_returns_the_same_however_it_is_read(
    agent: Path, equirl_command: Callable[..., Any]
) -> None:
    shown = returns(equirl_command, f"agent={agent}", "transform=all")
    assert len(shown) == 8
    assert shown == returns(equirl_command, f"agent={agent}", "transform=all", "trust=pickle")


@pytest.mark.slow
def test_a_native_agent_is_exported_without_its_environment(
    agent: Path, equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "policy.pt2"
    outcome = equirl_command("export", f"agent={agent}", f"output={path}", "format=torch")
    assert outcome.code == 0, outcome.err
    extra = {"equirl.json": ""}
    torch.export.load(path, extra_files=extra)
    assert '"method": "native"' in extra["equirl.json"]


@pytest.mark.long
def test_an_agent_of_the_mirror_loss_is_a_plain_one_to_others(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(equirl_command, run, "env=cartpole", "method=mirror_loss", *EVERY)
    assert type(DQN.load(run / "best_model.zip", device="cpu")) is DQN
    assert len(returns(equirl_command, f"agent={run}", "transform=all")) == 2


def test_weights_of_another_kind_of_network_are_refused(
    agent: Path, plain_agent: Path, refused: Refused
) -> None:
    keys = ("train", "env=cartpole", "run_dir=run", *SHORT)
    said = refused(*keys, "method=native", f"pretrained={plain_agent}")
    assert "holds the weights of a plain network" in said
    assert str(agent) in refused(*keys, "method=equitune", f"pretrained={agent}")


@pytest.mark.long
def test_a_native_agent_trains_on_from_its_own_weights(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    keys = ("env=cartpole", "method=native", *EVERY)
    train(equirl_command, tmp_path / "first", *keys)
    train(equirl_command, tmp_path / "second", *keys, f"pretrained={tmp_path / 'first'}")


def test_a_native_agent_is_not_transferred(agent: Path, refused: Refused) -> None:
    assert "is equivariant already" in refused("transfer", f"agent={agent}", "env=gridworld")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("method=native", "method.mirror_weight=2"),
            "mirror_weight is for method=mirror_loss, got method=native",
        ),
        (("method=mirror_loss", "method.mirror_weight=-1"), "mirror_weight must be between 0 and"),
        (("method=equitune", "method.match_parameters=true"), "is for method=native"),
        (
            ("method=native", "algorithm.policy=CnnPolicy"),
            "group convolutions take images [channels, height, width]",
        ),
        (
            ("method=native", "algorithm.features=equirl.agents:SmallCnn"),
            "group convolutions take images [channels, height, width]",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    refused: Refused, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused("train", "env=cartpole", "run_dir=run", *SHORT, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("env.id=equirl-test/Dict-v0",),
            "use method=equitune",
        ),
        (
            ("env.id=equirl-test/Shifted-v0", "algorithm.policy=CnnPolicy"),
            "shift is none: use MlpPolicy, or method=equitune",
        ),
    ],
    ids=["dict", "shift"],
)
def test_observations_without_native_layers_are_refused(
    refused: Refused, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused("train", "method=native", "run_dir=run", *SHORT, *arguments)
