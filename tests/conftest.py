"""What holds for every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from absl.logging import get_absl_handler
from torch.distributions import Distribution

from shared.covering import mark_what_is_covered_already
from shared.tried import examples as examples  # whose profile a command line may name

# Hydra closes every handler; absl's, which rliable and TensorBoard bring, then closes the stream
# that it found as sys.stderr, pytest's, unless that is sys.stderr now. This one it never closes.
get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As the commands do: with small networks more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What holds for the whole process is the same for every test, in whatever order they run."""
    # A command looks for modules in the current folder; later tests, and their processes, do not:
    # in the checkout they would find a package without its parts.
    monkeypatch.setattr(sys, "path", [*sys.path])
    # The first `torch.compile` in a process turns these checks off for good.
    monkeypatch.setattr(Distribution, "_validate_args", Distribution._validate_args)
    before = _switches()
    yield
    assert _switches() == before


def _switches() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
    )


@pytest.hookimpl(tryfirst=True)  # before what is slow is deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_what_is_covered_already(items)
