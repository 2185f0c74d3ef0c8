"""SB3's logger for a training that goes on: TensorBoard shows one curve, without repetitions."""

from __future__ import annotations

import time
from pathlib import Path

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter


class _ResumedOutput(TensorBoardOutputFormat):
    # Not super().__init__, which would open a file without the mark.
    def __init__(self, folder: Path, step: int) -> None:
        _wait_for_a_name_that_sorts_last(folder)
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=step + 1)
        self._is_closed = False


def _wait_for_a_name_that_sorts_last(folder: Path) -> None:
    """TensorBoard reads a folder's files by name: the second, the host, the process, a count.

    Within one second the names sort by the digits of process and count (``.10`` before ``.9``):
    what was written first would be read last. So the second of the last file is let pass.
    """
    now = int(time.time())
    if any(f"tfevents.{now:010d}." in path.name for path in folder.glob("events.out.tfevents.*")):
        time.sleep(max(0.0, now + 1 - time.time()))


def resumed_logger(folder: Path, step: int) -> Logger:
    """A logger for going on after ``step``: what was logged of later steps is not shown.

    Args:
        folder: with the TensorBoard files written so far.
        step: of the checkpoint.
    """
    return Logger(str(folder), [_ResumedOutput(folder, step)])
