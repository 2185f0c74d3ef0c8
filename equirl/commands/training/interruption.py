"""What ends a training before its time: Ctrl-C, a full disk, too little memory."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from stable_baselines3.common.callbacks import BaseCallback

from equirl.agents.training.checkpoint_callback import CheckpointCallback
from equirl.commands.signals import Interruption
from equirl.errors import EquirlError, RunError


class InterruptionCallback(BaseCallback):
    """Saves a checkpoint and ends the training, between two rounds, after a signal.

    Args:
        interruption: has noted the signal.
        checkpoints: saves; None saves nothing.
    """

    def __init__(self, interruption: Interruption, checkpoints: CheckpointCallback | None) -> None:
        super().__init__()
        self.interruption = interruption
        self.checkpoints = checkpoints

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.interruption.signal is not None and self.checkpoints is not None:
            self.checkpoints.save()
        self.interruption.raise_if_noted()


@contextmanager
def explained(interruption: Interruption, what_remains: Callable[[], str]) -> Iterator[None]:
    """Turn what ends a training into a `RunError` of one line, which says what remains of it.

    Args:
        interruption: the signals noted meanwhile.
        what_remains: said at the end of the line.
    """
    try:
        with interruption:
            yield
    except (EquirlError, BrokenPipeError):
        raise
    except (Exception, KeyboardInterrupt) as error:
        fault = interruption.fault() or _fault(error)
        if fault is None:
            raise
        raise RunError(f"{fault}; {what_remains()}", fault.code) from error


def _fault(error: BaseException) -> RunError | None:
    if isinstance(error, RunError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _is_allocation(error, text):
        said = f" ({text.partition('. ')[0]})" if text else ""
        mend = (
            "a smaller algorithm.buffer_size, algorithm.batch_size or algorithm.n_envs needs less"
        )
        return RunError(f"out of memory{said}: {mend}", code=2)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else "a file cannot be written or read"
        return RunError(f"{why} ({error.strerror or text}{where})")
    return None


def _is_allocation(error: BaseException, text: str) -> bool:
    """PyTorch says so on the CPU, and some CUDA libraries do, by a bare RuntimeError."""
    said = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(words in text for words in said)
