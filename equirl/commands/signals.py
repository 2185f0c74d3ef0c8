"""SIGINT and SIGTERM, noted for work to end at a place of its own choice."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from equirl.errors import RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Notes SIGINT and SIGTERM, for the training to stop where it can be resumed exactly.

    A second signal, or one when ``at_once`` is set, raises `KeyboardInterrupt`, which `explained`
    turns into the same `RunError`.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.at_once = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def fault(self) -> RunError | None:
        """What to end with if there was a signal; its exit code is the shell's, 128 + signal."""
        if self.signal is None:
            return None
        word = "interrupted" if self.signal == signal.SIGINT else "terminated"
        return RunError(word, code=128 + self.signal)

    def raise_if_noted(self) -> None:
        """Raise `fault`, if there is one."""
        fault = self.fault()
        if fault is not None:
            raise fault

    def _note(self, number: int, frame: FrameType | None) -> None:
        second = self.signal is not None
        self.signal = signal.Signals(number)
        if second or self.at_once:
            raise KeyboardInterrupt  # a RunError might be caught on the way
