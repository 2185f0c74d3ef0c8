"""The process in which one job of a sweep trains."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading

from hydra.conf import HydraConf, OverridesConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from equirl.commands import answered
from equirl.configs.completion import typed
from equirl.configs.schema import TrainConfig


def main() -> None:
    """Train what the first line of standard input says; its end ends the training."""
    faulthandler.enable()  # the log is all that is left of a crash
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    hydra = HydraConf(overrides=OverridesConf(task=task["given"]))
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": hydra}))
    config = OmegaConf.create(task["config"])
    assert isinstance(config, DictConfig)
    if config.resume is None:  # otherwise that of the earlier run counts
        merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), config)
        assert isinstance(merged, DictConfig)
        config = typed(merged)
    from equirl.commands.train import train

    answered("train", train, config)


def _end_with_standard_input() -> None:
    while os.read(0, 1):  # a thread in sys.stdin.read would keep Python from shutting down
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a checkpoint is saved first
