"""`algorithm.n_steps` with every replay buffer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.buffers import NStepReplayBuffer

from equirl.agents import DeviceNStepReplayBuffer, OrbitNStepReplayBuffer
from shared.short_training import train


@pytest.mark.parametrize("keys", [("method=augment",), ("method=plain", "device_replay=true")])
def test_the_command_line_gives_every_buffer_the_number_of_steps(
    keys: tuple[str, ...],
    equirl_command: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    seen = []
    sample = NStepReplayBuffer._get_samples

    def noted(self: NStepReplayBuffer, *args: Any, **kwargs: Any) -> Any:
        seen.append((type(self), self.n_steps, self.gamma))
        return sample(self, *args, **kwargs)

    monkeypatch.setattr(NStepReplayBuffer, "_get_samples", noted)
    folder = tmp_path / "run"
    train(equirl_command, folder, "env=cartpole", *keys, "total_timesteps=200", "eval.every=100")
    cls = OrbitNStepReplayBuffer if keys == ("method=augment",) else DeviceNStepReplayBuffer
    assert set(seen) == {(cls, 5, 0.99)}
    assert not [w for w in recwarn if "n_steps" in str(w.message)]


def test_dicts_have_no_returns_of_several_steps(
    equirl_command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts.py").write_text(
        "import gymnasium as gym\n"
        "def parts(env):\n"
        "    space = gym.spaces.Dict(x=env.observation_space)\n"
        "    return gym.wrappers.TransformObservation(env, lambda o: {'x': o}, space)\n"
    )
    monkeypatch.chdir(tmp_path)
    outcome = equirl_command(
        *("train", "env=cartpole", "method=plain", "env.wrappers=[parts:parts]"),
        *("algorithm.policy=MultiInputPolicy", "progress=false", f"run_dir={tmp_path / 'run'}"),
    )
    assert outcome.code == 2
    assert "algorithm.n_steps must be 1 for Dict observations, got 5" in outcome.err
