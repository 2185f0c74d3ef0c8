"""Fair timing: everything that is compared takes turns, A B A B, in one process."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Work = Callable[[], Any]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Any) -> Spread:
        """The spread of some numbers."""
        low, median, high = np.percentile(np.asarray(numbers), [25, 50, 75])
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True)
class Timing:
    """What one call costs.

    Args:
        seconds: of one call.
        ratio: to the baseline's in the same round.
    """

    seconds: Spread
    ratio: Spread


def take_turns(
    works: Mapping[str, Work],
    rounds: int,
    turn_seconds: float,
    synchronize: Work,
    clock: Callable[[], float] | None = None,
) -> dict[str, Timing]:
    """Time each work in turn; the first is the baseline of the ratios.

    Args:
        works: by name.
        rounds: how many turns each takes.
        turn_seconds: a turn repeats the call until it takes about this long.
        synchronize: waits for what a device still has to do.
        clock: in seconds; left out, that of the wall. On a busy machine the time that one thread
            computes, `time.process_time`, is the steadier one.
    """
    clock = clock or time.perf_counter

    def turn(work: Work, calls: int) -> float:
        synchronize()
        started = clock()
        for _ in range(calls):
            work()
        synchronize()
        return (clock() - started) / calls

    calls: dict[str, int] = {}
    for name, work in works.items():
        turn(work, 1)  # first calls allocate, compile and fill caches
        calls[name] = max(1, round(turn_seconds / turn(work, 1)))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(turn(work, calls[name]))
    baseline = np.array(next(iter(seconds.values())))
    return {
        name: Timing(Spread.of(own), Spread.of(np.array(own) / baseline))
        for name, own in seconds.items()
    }


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """The most bytes of tensors that were alive at one time and were made within the context.

    Counts storages, so views cost nothing; in-place results and what was there before cost nothing
    either.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor here
        self.peak = 0
        self._live = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves((args, kwargs or {}))
            if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage(), before)
        return result

    def _count(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        if storage in self._known or storage.data_ptr() in before:
            return
        self._known.add(storage)
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, nbytes: int) -> None:
        self._live -= nbytes
