"""Callbacks that keep a long training safe: checkpoints, and an end to one that diverges."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from equirl.agents.replay.replay_rows import ReplayRows
from equirl.agents.training.checkpoints import (
    Checkpoint,
    go_on_from,
    read_checkpoint,
    replay_files,
    save_checkpoint,
)
from equirl.agents.training.normalised_play import remove_statistics_alone, save_statistics
from equirl.agents.training.periodic_callback import PeriodicCallback
from equirl.errors import AgentError


class Resumable(Protocol):
    """A callback whose state a checkpoint keeps; see `PeriodicCallback`."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


class CheckpointCallback(PeriodicCallback):
    """Saves from time to time all that training needs to go on; keeps the last two checkpoints.

    A checkpoint is made once it is due and nothing is half-done: between two rounds of
    ``train_freq`` steps, or before a rollout. It is also an agent that SB3 loads.

    Args:
        folder: where checkpoints go, as ``step_<n>.zip``, statistics of a `VecNormalize`, as
            ``step_<n>.vecnormalize.pkl``, and the replay buffer, in ``replay/``.
        every: environment steps between two checkpoints.
        callbacks: whose state is kept as well.

    What goes on is the same to the last bit, but for noise that has a memory of its own
    (Ornstein-Uhlenbeck, gSDE), which begins anew. A folder is for one training.

    Raises:
        AgentError: when a training begins before the last checkpoint in the folder.

    Example:
        >>> import tempfile
        >>> from equirl.agents import EquivariantDQN
        >>> folder = Path(tempfile.mkdtemp())
        >>> model = EquivariantDQN("MlpPolicy", "CartPole-v1", buffer_size=1000)
        >>> _ = model.learn(100, callback=CheckpointCallback(folder, every=40))
        >>> sorted(path.name for path in folder.glob("*.zip"))
        ['step_40.zip', 'step_80.zip']
    """

    def __init__(self, folder: Path, every: int, callbacks: Sequence[Resumable] = ()) -> None:
        super().__init__(every)
        self.folder = folder
        self.callbacks = callbacks
        self.between_rounds = True
        self._rows = ReplayRows(folder / "replay")
        self._seconds = 0.0
        self._began = time.monotonic()
        self._last_saved = -1

    @property
    def seconds(self) -> float:
        """Spent on the training so far, before it was interrupted too."""
        return self._seconds + time.monotonic() - self._began

    def _on_training_start(self) -> None:
        last = self.last_step
        if last is not None and last > self.num_timesteps:
            raise AgentError(
                f"{self.folder} holds the checkpoint of step {last}, this training begins at "
                f"{self.num_timesteps}: go on from it, or give another folder"
            )
        self._began = time.monotonic()

    def _on_step(self) -> bool:
        self.between_rounds = False
        return True

    def _on_rollout_end(self) -> None:
        self.between_rounds = True

    def _on_rollout_start(self) -> None:
        self.between_rounds = True
        if self.num_timesteps >= self._next:
            self._next = self.num_timesteps + self.every
            self.save()

    def _on_time(self) -> bool:
        return True

    def save(self) -> None:
        """Save now, between two rounds."""
        if self.num_timesteps == self._last_saved:
            return
        model: Any = self.model
        for output in model.logger.output_formats:
            if hasattr(output, "writer"):
                output.writer.flush()  # what was logged before a checkpoint outlasts it
        more = {
            "seconds": self.seconds,
            "callbacks": [callback.state() for callback in (self, *self.callbacks)],
        }
        path = self.folder / f"step_{self.num_timesteps}.zip"
        save_statistics(model, path)  # for whoever takes the checkpoint as an agent
        save_checkpoint(model, path, self._rows, more)
        self._last_saved = self.num_timesteps
        for old in self.paths()[:-2]:
            old.unlink()
        remove_statistics_alone(self.folder)
        self._rows.remove_all_but(self._needed())

    def read(self, model: Any, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole, read together with the replay buffer; None if none
        has been written.

        Args:
            model: a new model.
            warn: is told, in one line, of a damaged one.

        Raises:
            AgentError: none of them is whole.
        """
        paths = self.paths()[::-1]
        for path in paths:
            try:
                return read_checkpoint(model, path, self._rows)
            except AgentError as error:
                if path == paths[-1]:
                    raise
                warn(f"{error}: going on from the one before")
        return None

    def go_on(self, model: Any, checkpoint: Checkpoint, seed: int) -> list[int]:
        """Go on from a checkpoint; see `go_on_from` for arguments and result."""
        for path in self.paths():
            if _step(path) > checkpoint.step:  # damaged, or it would have been read
                path.unlink()
        more = checkpoint.state["more"]
        for callback, state in zip((self, *self.callbacks), more["callbacks"], strict=True):
            callback.restore(state)
        self._seconds = more["seconds"]
        self._last_saved = checkpoint.step
        restarted = go_on_from(checkpoint, model, seed)
        if restarted:  # where an episode was ended in the row that was written last
            self._rows.write_last_again()
        return restarted

    @property
    def last_step(self) -> int | None:
        """Of the newest checkpoint; None if there is none."""
        paths = self.paths()
        return _step(paths[-1]) if paths else None

    def paths(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.folder.glob("step_*.zip"), key=_step)

    def _needed(self) -> set[str]:
        needed: set[str] = set()
        for path in self.paths():
            try:
                needed.update(replay_files(path))
            except Exception:  # damaged: needs nothing
                continue
        return needed


def _step(path: Path) -> int:
    return int(path.stem[5:])
