"""`equirl train`: options that make training cheaper, and where they are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import DQN

from equirl.agents import DeviceReplayBuffer, EquivariantDQN
from shared.refusals import Refused
from shared.short_training import train


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ("method=lambda", "method.orbit_samples=1"),
            "method.orbit_samples is for method=equitune",
        ),
        (("method=equitune", "method.orbit_samples=0"), "method.orbit_samples must be at least 1"),
        (("method=plain", "compile=true"), "compile is for equitune, lambda, equizero, canonical"),
        (("method=native", "compile=true"), "native trains by SB3's own DQN"),
        (("method=augment", "bf16=true"), "augment trains by SB3's own DQN"),
        (("method=augment", "device_replay=true"), "device_replay does not go with method=augment"),
        (
            ("algorithm=ppo", "method=augment", "algorithm.target_kl=0.03"),
            "algorithm.target_kl does not go with method=augment",
        ),
    ],
)
def test_an_option_that_would_not_be_heeded_is_refused(
    refused: Refused, overrides: tuple[str, ...], says: str
) -> None:
    assert says in refused("train", "env=cartpole", *overrides)


@pytest.mark.parametrize("method", ["plain", "equitune"])
def test_the_replay_buffer_may_live_on_the_device(
    equirl_command: Callable[..., Any], tmp_path: Path, method: str
) -> None:
    keys = ("env=cartpole_zoo", f"method={method}", "total_timesteps=160", "device_replay=true")
    train(equirl_command, tmp_path / "run", *keys)
    cls = DQN if method == "plain" else EquivariantDQN
    model = cls.load(tmp_path / "run" / "final_model.zip")
    assert model.replay_buffer_class is DeviceReplayBuffer


def test_a_sampled_orbit_is_trained_from_the_command_line(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    keys = ("env=cartpole", "method=equitune", "total_timesteps=160", "method.orbit_samples=1")
    train(equirl_command, tmp_path / "run", *keys)
    model = EquivariantDQN.load(tmp_path / "run" / "final_model.zip")
    assert model.q_net.symmetrized.method.orbit_samples == 1
