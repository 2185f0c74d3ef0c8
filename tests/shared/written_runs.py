"""Run directories with evaluations that a test decides."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from equirl.configs.algorithms import DQNConfig
from equirl.configs.methods import METHODS
from equirl.configs.schema import EnvConfig, TrainConfig

PROVENANCE = {
    "command": "equirl train env=task method=plain seed=0 run_dir=there",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "hardware": {"system": "Linux", "processor": "A Processor", "cores": 2, "gpus": []},
    "git": {"commit": "0123456789abcdef", "dirty": False},
}


def write_run(
    folder: Path,
    steps: Sequence[int] | Any,
    returns: Sequence[float] | Any,
    *,
    method: str = "plain",
    env: str = "task",
    seed: int = 0,
    total_timesteps: int | None = None,
    seconds: Any = None,
    finished: bool = True,
    changed: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = PROVENANCE,
) -> Path:
    """Write a run whose evaluations have these mean returns, in two episodes of return ± 1.

    Args:
        folder: where to.
        steps: ``[n]``.
        returns: ``[n]``.
        method: its name.
        env: the environment's.
        seed: of the training.
        total_timesteps: the last of the steps unless given.
        seconds: ``[n]``, as wall-clock seconds and, halved, as those of the processor.
        finished: with ``result.json``.
        changed: other keys of the configuration, dotted.
        provenance: what it says of its origin.
    """
    config = copy.deepcopy(_config(method))
    own = {"env.name": env, "env.id": f"{env}-v0", "seed": seed, "run_dir": str(folder)}
    own["total_timesteps"] = int(total_timesteps or steps[-1])
    for key, value in {**own, **(changed or {})}.items():
        *parents, name = key.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    folder.mkdir(parents=True)
    # JSON is YAML, and sooner written.
    (folder / "config.yaml").write_text(json.dumps(config, indent=1))
    write_evaluations(folder / "evaluations.npz", steps, returns, seconds)
    if provenance is not None:
        (folder / "provenance.json").write_text(json.dumps(provenance))
    if finished:
        (folder / "result.json").write_text(json.dumps({"steps": int(steps[-1])}))
    return folder


@cache
def _config(method: str) -> Any:
    config = TrainConfig(env=EnvConfig(), algorithm=DQNConfig(), method=METHODS[method]())
    return OmegaConf.to_container(OmegaConf.structured(config))


def write_evaluations(file: Path, steps: Any, returns: Any, seconds: Any = None) -> None:
    """Write evaluations in the format of SB3's `EvalCallback`, with the clocks if given."""
    means = np.asarray(returns, float)
    columns = {
        "timesteps": np.asarray(steps),
        "results": np.stack([means - 1, means + 1], axis=1),
        "ep_lengths": np.ones((len(means), 2), int),
    }
    if seconds is not None:
        columns["seconds"] = np.asarray(seconds, float)
        columns["cpu_seconds"] = np.asarray(seconds, float) / 2
    np.savez(file, **columns)
