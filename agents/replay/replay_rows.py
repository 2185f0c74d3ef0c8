"""A replay buffer on disk: each checkpoint writes only the transitions that are new."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer

from equirl.agents.replay.device_replay import DeviceArray
from equirl.runs.atomic_write import written_whole

MAX_FILES = 64
"""With more of them, the buffer is written anew, into one."""


class ReplayRows:
    """Writes the rows of a replay buffer to files ``rows_<first>_<end>.npz``, each only once.

    Rows are counted from the beginning of training; row r stands at r modulo the buffer's size. The
    rows of a file are neighbours in the buffer.

    Args:
        folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self._calls = 0
        self._end = 0
        self._changed = 0

    def write(self, buffer: ReplayBuffer, calls: int) -> list[str]:
        """Write what is new; returns the names of the files that make up the buffer.

        Args:
            buffer: the replay buffer.
            calls: how often a row has been added to it, counted from anywhere.
        """
        size, filled = buffer.buffer_size, buffer.size()
        if not self.names:
            self._end = size + buffer.pos if buffer.full else buffer.pos
            first = self._end - filled
        else:
            first, self._end = self._end - self._changed, self._end + calls - self._calls
        self._changed = 0
        if len(self.names) >= MAX_FILES:
            self.names, first = [], self._end - filled
        first = max(first, self._end - filled)
        self._calls = calls
        assert self._end % size == buffer.pos
        around = first - first % size + size
        for start, end in ((first, min(around, self._end)), (around, self._end)):
            if start < end:
                self.names.append(self._write_file(buffer, start, end))
        self.names = [name for name in self.names if _bounds(name)[1] > self._end - size]
        return list(self.names)

    def read(self, buffer: ReplayBuffer, names: Sequence[str], calls: int) -> None:
        """Fill the buffer from these files, and go on from there.

        Args:
            buffer: a new replay buffer, of the same size.
            names: what `write` returned.
            calls: as of `write`.
        """
        end, size = 0, buffer.buffer_size
        for name in names:
            first, end = _bounds(name)
            start = first % size
            with np.load(self.folder / name) as columns:
                for key, column in _columns(buffer):
                    column[start : start + end - first] = columns[key]
        buffer.pos, buffer.full = end % size, end >= size
        self.names, self._end, self._calls = list(names), end, calls

    def write_last_again(self) -> None:
        """The next time the row that was written or read last is written too: it was changed."""
        self._changed = 1 if self._end > 0 else 0

    def remove_all_but(self, names: set[str]) -> None:
        """Remove the files that no checkpoint needs any more."""
        for path in self.folder.glob("rows_*.npz"):
            if path.name not in names:
                path.unlink()

    def _write_file(self, buffer: ReplayBuffer, first: int, end: int) -> str:
        start = first % buffer.buffer_size
        rows = slice(start, start + end - first)
        name = f"rows_{first}_{end}.npz"
        arrays: dict[str, Any] = {key: _read(column, rows) for key, column in _columns(buffer)}
        with written_whole(self.folder / name) as aside:
            np.savez(aside, **arrays)
        return name


def _bounds(name: str) -> tuple[int, int]:
    found = re.fullmatch(r"rows_(\d+)_(\d+)\.npz", name)
    assert found is not None
    return int(found[1]), int(found[2])


def _columns(buffer: ReplayBuffer) -> Iterator[tuple[str, Any]]:
    """The arrays that hold a row for every transition, whatever kind of buffer it is."""
    for name, value in vars(buffer).items():
        for key, part in value.items() if isinstance(value, dict) else [("", value)]:
            is_column = isinstance(part, np.ndarray | DeviceArray)
            if is_column and part.shape[:1] == (buffer.buffer_size,):
                yield f"{name}.{key}" if key else name, part


def _read(column: np.ndarray | DeviceArray, rows: slice) -> np.ndarray:
    return column.tensor[rows].cpu().numpy() if isinstance(column, DeviceArray) else column[rows]
