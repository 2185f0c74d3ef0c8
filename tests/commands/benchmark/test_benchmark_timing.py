"""What is alive and what was alive at most is counted in bytes known by hand; turns are fair."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
import torch
from torch import Tensor

from equirl.commands.benchmark.subjects import STOCK, subject, symmetry_of_order
from equirl.commands.benchmark.timing import PeakMemory, Spread, take_turns

N = 1000
"""Entries of a float32 tensor of 4,000 bytes."""

FLOAT = 4


def test_the_peak_is_that_of_tensors_alive_at_one_time() -> None:
    with PeakMemory() as memory:
        a = torch.zeros(N)
        assert memory.peak == FLOAT * N
        b = a + 1
        assert memory.peak == 2 * FLOAT * N
        del a
        c = b + 1
        assert memory.peak == 2 * FLOAT * N  # a is gone
        d = c + 1
    assert memory.peak == 3 * FLOAT * N
    assert d[0] == 3


def test_views_are_free() -> None:
    with PeakMemory() as memory:
        a = torch.zeros(10, N // 10)
        views = [a[:5], a.t(), a.view(-1), a.flatten(), a[None].expand(7, -1, -1), a.detach()]
    assert memory.peak == FLOAT * N
    assert len(views) == 6


def test_a_view_keeps_all_of_what_it_looks_at_alive() -> None:
    with PeakMemory() as memory:
        view = torch.zeros(N)[:1]
        gc.collect()
        other = torch.zeros(N)
    assert memory.peak == 2 * FLOAT * N
    assert len(view) + len(other) == N + 1


def test_what_was_there_before_and_what_is_done_in_place_is_free() -> None:
    a = torch.zeros(N)
    with PeakMemory() as memory:
        a.add_(1)
        a[: N // 2] = 7
        a.view(10, -1).mul_(2)
        torch.add(a, 1, out=a)
        assert memory.peak == 0
        a.mul_(a + 1)
    assert memory.peak == FLOAT * N


def test_freed_tensors_count_no_longer_however_often_they_are_made() -> None:
    with PeakMemory() as memory:
        for _ in range(20):
            a = torch.zeros(N)
            del a
        assert memory.peak == FLOAT * N
        kept = [torch.zeros(N) for _ in range(3)]
    assert memory.peak == 3 * FLOAT * N
    assert len(kept) == 3


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.uint8, 1), (torch.int64, 8), (torch.bfloat16, 2)]
)
def test_bytes_are_those_of_the_dtype(dtype: torch.dtype, size: int) -> None:
    with PeakMemory() as memory:
        a = torch.zeros(N, dtype=dtype)
    assert memory.peak == size * N == size * len(a)


def test_the_backward_pass_is_counted() -> None:
    x = torch.ones(N, requires_grad=True)
    scalars = 8 * FLOAT  # the loss, its gradient, and what they are made of
    with PeakMemory() as memory:
        y = x.exp()
        loss = y.sum()
        assert FLOAT * N < memory.peak <= FLOAT * N + scalars
        loss.backward()
    assert 2 * FLOAT * N < memory.peak <= 2 * FLOAT * N + scalars
    assert isinstance(x.grad, Tensor)


def test_saved_activations_stay_alive_until_the_backward_pass() -> None:
    x = torch.ones(N, requires_grad=True)
    with PeakMemory() as forgotten, torch.no_grad():
        x.exp().exp().exp().exp()
    with PeakMemory() as saved:
        x.exp().exp().exp().exp()
    assert forgotten.peak == 2 * FLOAT * N
    assert saved.peak == 4 * FLOAT * N


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([5, 1, 2, 4, 3]) == Spread(median=3, low=2, high=4)
    assert Spread.of([7]) == Spread(7, 7, 7)


class Clock:
    """Time that passes only while work is done, at the machine's pace."""

    def __init__(self) -> None:
        self.now, self.pace = 0.0, 1.0
        self.log: list[str] = []

    def work(self, name: str, seconds: float) -> Any:
        def work() -> None:
            self.log.append(name)
            self.now += seconds * self.pace

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock


def test_works_take_turns_and_are_compared_with_the_first(clock: Clock) -> None:
    works = {"stock": clock.work("s", 0.5), "slow": clock.work("l", 2.0)}
    timings = take_turns(works, rounds=3, turn_seconds=1.0, synchronize=lambda: None)
    # Two calls to warm up and to see how long one takes, then turns of about a second.
    assert "".join(clock.log) == "ssll" + "ssl" * 3
    assert timings["stock"].seconds == Spread(0.5, 0.5, 0.5)
    assert timings["stock"].ratio == Spread(1, 1, 1)
    assert timings["slow"].seconds == Spread(2, 2, 2)
    assert timings["slow"].ratio == Spread(4, 4, 4)


def test_what_slows_the_whole_machine_down_leaves_the_ratios_alone(clock: Clock) -> None:
    def slower() -> None:
        clock.pace *= 1.5
        clock.work("a", 1.0)()

    works = {"a": slower, "b": clock.work("b", 3.0)}
    timings = take_turns(works, rounds=5, turn_seconds=0, synchronize=lambda: None)
    ratio, seconds = timings["b"].ratio, timings["b"].seconds
    assert [ratio.low, ratio.median, ratio.high] == pytest.approx([3, 3, 3])
    assert seconds.high > 1.5 * seconds.low


def test_a_device_is_waited_for_within_the_turn(clock: Clock) -> None:
    pending = [0.0]

    def launch() -> None:
        pending[0] += 2.0

    def synchronize() -> None:
        clock.now += pending[0]
        pending[0] = 0.0

    timings = take_turns({"a": launch}, rounds=2, turn_seconds=6.0, synchronize=synchronize)
    assert timings["a"].seconds == Spread(2, 2, 2)


def peak_of_a_step(model: Any, batch_size: int) -> int:
    model.train(1, batch_size)  # the optimiser makes its own state
    with PeakMemory() as memory:
        model.train(1, batch_size)
    return memory.peak


@pytest.mark.long
def test_averaging_over_eight_elements_takes_at_most_eight_times_the_memory_of_stock() -> None:
    symmetry = symmetry_of_order(8, images=True)
    peaks = {
        method: peak_of_a_step(subject(method, "nature-cnn", symmetry, 32, device="cpu"), 32)
        for method in (STOCK, "equitune")
    }
    assert peaks[STOCK] < peaks["equitune"] <= 8 * peaks[STOCK]


@pytest.mark.parametrize("method", ["equitune", "canonical"])
def test_the_replay_buffer_is_not_copied_in_a_gradient_step(method: str) -> None:
    symmetry = symmetry_of_order(2, images=True)
    model = subject(method, "nature-cnn", symmetry, 4, device="cpu")
    buffer = model.replay_buffer
    assert buffer is not None
    stored = buffer.observations.nbytes + buffer.next_observations.nbytes
    small = peak_of_a_step(model, 4)
    assert small < stored
    tracemalloc.start()
    try:
        model.train(1, 4)
        _, arrays = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sampled = 2 * 4 * 84 * 84 * 4  # bytes, of observations and the next ones
    assert sampled <= arrays < 4 * sampled < stored / 4

    half = subject(method, "nature-cnn", symmetry, 4, device="cpu")
    half.replay_buffer.buffer_size //= 2
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        array = getattr(half.replay_buffer, name)
        setattr(half.replay_buffer, name, array[: len(array) // 2].copy())
    half.replay_buffer.pos, half.replay_buffer.full = 0, True
    assert peak_of_a_step(half, 4) == small
