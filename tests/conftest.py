"""What holds for every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from absl.logging import get_absl_handler

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
def own_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command looks for modules in the current folder; later tests, and their processes, do not.

    In the checkout they would find a package without its parts.
    """
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.hookimpl(tryfirst=True)  # before what is slow is deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_what_is_covered_already(items)
