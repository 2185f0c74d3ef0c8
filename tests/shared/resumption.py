"""Trainings that are cut off, resumed, and compared with one that was not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from stable_baselines3.common.save_util import load_from_zip_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equirl.envs.running.resumable import ResumableEnv

KEYS = (
    "progress=false",
    "algorithm=dqn",  # which auto would compose the configuration once more to find
    "algorithm.net_arch=[8]",
    "algorithm.learning_starts=40",
    "algorithm.train_freq=8",
    "algorithm.gradient_steps=2",
    "algorithm.buffer_size=150",
    "algorithm.target_update_interval=24",
    "eval.every=60",
    "eval.episodes=2",
    "eval.final_episodes=2",
    "checkpoint_every=64",
    "total_timesteps=300",
)
CARTPOLE = ("env=cartpole", "method=lambda")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@contextlib.contextmanager
def killed_at(call: int) -> Iterator[None]:
    """Breaks off at this step of training."""

    def kill() -> None:
        raise Killed

    with at_step({call: kill}), pytest.raises(Killed):
        yield
    GlobalHydra.instance().clear()


@contextlib.contextmanager
def at_step(events: Mapping[int, Callable[[], None]]) -> Iterator[None]:
    """Does something before these calls of ``step`` in training."""
    calls, step = 0, ResumableEnv.step

    def counted(self: ResumableEnv, action: Any) -> Any:
        nonlocal calls
        calls += 1
        events.get(calls, lambda: None)()
        return step(self, action)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableEnv, "step", counted)
        yield


def parameters(path: Path) -> dict[str, torch.Tensor]:
    """Of policy and optimiser, flat."""
    _, saved, _ = load_from_zip_file(path, device="cpu")
    flat = dict(saved["policy"])
    for index, moments in saved["policy.optimizer"]["state"].items():
        flat.update({f"optimizer.{index}.{name}": value for name, value in moments.items()})
    return flat


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, but for the clock."""
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {
        tag: [(e.step, 0.0 if tag == "time/fps" else e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def differences(run: Path, other: Path) -> list[str]:
    """What two runs do not have in common, bit for bit."""
    found = []
    for name in ("final_model.zip", "best_model.zip"):
        ours, theirs = parameters(run / name), parameters(other / name)
        assert ours.keys() == theirs.keys()
        found += [f"{name}: {key}" for key in ours if not torch.equal(ours[key], theirs[key])]
    evaluations = [sorted(p.name for p in folder.glob("*.npz")) for folder in (run, other)]
    assert evaluations[0] == evaluations[1]
    for name in evaluations[0]:
        with np.load(run / name) as ours, np.load(other / name) as theirs:
            assert set(ours) == set(theirs)
            learned = set(ours) - {"seconds", "cpu_seconds"}
            found += [key for key in learned if not np.array_equal(ours[key], theirs[key])]
    ours_drawn, theirs_drawn = curves(run), curves(other)
    found += [f"TensorBoard: {tag}" for tag in ours_drawn.keys() ^ theirs_drawn.keys()]
    for tag in ours_drawn.keys() & theirs_drawn.keys():
        if ours_drawn[tag] != theirs_drawn[tag]:
            found.append(f"TensorBoard: {tag}, {ours_drawn[tag]} and {theirs_drawn[tag]}")
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, other)]
    if any(results[0][key] != results[1][key] for key in ("best_mean_return", "steps")):
        found.append("result.json")
    return found
