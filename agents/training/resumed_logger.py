"""SB3's logger for a training that goes on: TensorBoard shows one curve, without repetitions."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter


class _ResumedOutput(TensorBoardOutputFormat):
    # Not super().__init__, which would open a file without the mark.
    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=step + 1)
        self._is_closed = False


def resumed_logger(folder: Path, step: int) -> Logger:
    """A logger for going on after ``step``: what was logged of later steps is not shown.

    Args:
        folder: with the TensorBoard files written so far.
        step: of the checkpoint.
    """
    return Logger(str(folder), [_ResumedOutput(folder, step)])
