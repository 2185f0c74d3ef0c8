"""What holds for every fuzzed input: it comes to an end, and errors are one line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from equirl.errors import EquirlError

SECONDS = 20
"""An input that takes longer hangs; the slowest take a tenth of a second."""


class Hang(BaseException):
    """The input takes too long. No `Exception`, so that nothing takes it for the input's fault."""


@contextmanager
def comes_to_an_end(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `Hang` where the body is not through in time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"not through in {seconds} s")

    # Of the processor, as on a busy machine anything may take long by the clock.
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def check_message(error: EquirlError) -> None:
    """A refusal says something, in one line that fits a terminal several times at most."""
    message = str(error)
    assert message.strip(), repr(error)
    assert message.splitlines() == [message], message
    assert len(message) < 4000, f"{len(message)} characters: {message[:300]}"
