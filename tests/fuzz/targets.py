"""What is fuzzed: by name, the inputs, what must hold for each, and what to do around them all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from fuzz.fuzzed_agents import agent_files, read_and_build
from fuzz.fuzzed_declarations import declarations, declare
from fuzz.fuzzed_overrides import command_lines, prepared, run
from fuzz.fuzzed_spaces import observations, observe, play, returned, take_over, taken_over


class Target(NamedTuple):
    """One of the things that take input.

    Args:
        inputs: the inputs.
        check: fails where an input neither works nor is refused as it should be; whether it works.
        surroundings: around all inputs, given an empty folder.
    """

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], bool]
    surroundings: Callable[[Path], AbstractContextManager[None]]


TARGETS = {
    "declarations": Target(declarations(), lambda given: declare(*given), nullcontext),
    "agents": Target(agent_files(), read_and_build, nullcontext),
    "environments": Target(returned(), lambda given: play(*given), nullcontext),
    "spaces": Target(taken_over(), lambda given: take_over(*given), nullcontext),
    "observations": Target(observations(), lambda given: observe(*given), nullcontext),
    "overrides": Target(command_lines(), lambda given: run(*given), prepared),
}
