"""TensorBoard shows a training that went on as one curve."""

from __future__ import annotations

import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from equirl.agents.training.resumed_logger import resumed_logger


def test_what_goes_on_within_the_same_second_is_read_last(tmp_path: Path) -> None:
    with SummaryWriter(log_dir=str(tmp_path)) as writer:
        for step in range(1, 5):
            writer.add_scalar("loss", float(step), step)
    (first,) = tmp_path.iterdir()
    # As another process, or the count after 9, may name it: last of this second.
    first.rename(tmp_path / f"events.out.tfevents.{int(time.time()):010d}.~.9.9")
    logger = resumed_logger(tmp_path, 2)
    logger.record("loss", 30.0)
    logger.dump(3)
    logger.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
