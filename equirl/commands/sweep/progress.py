"""A line for each run of a sweep that ends, and a summary of all."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict

from equirl.commands.signals import Interruption
from equirl.commands.sweep.jobs import Job, Outcome
from equirl.runs.atomic_write import written_whole
from equirl.runs.run_directory import SweepDirectory

POLL_SECONDS = 0.2

STATUSES = ("finished", "resumed", "skipped", "failed", "interrupted", "not begun")


class Progress:
    """Prints what becomes of the jobs, wherever they run, from what they leave in their folder.

    Args:
        folder: of the sweep.
        jobs: all of them; None where a sweeper decides about them on its way.
        interruption: is passed on to the jobs.
    """

    def __init__(
        self, folder: SweepDirectory, jobs: list[Job] | None, interruption: Interruption
    ) -> None:
        self.folder, self.jobs, self.interruption = folder, jobs, interruption
        self.outcomes: dict[str, Outcome] = {}
        self._waiting: set[str] = set()
        self._told = False
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        runs = "runs" if self.jobs is None else f"{len(self.jobs)} runs"
        print(f"sweep: {runs} in {self.folder}", flush=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        if self.interruption.signal is not None and not self._told:
            self._told = True
            self.folder.stop.touch()
            print(
                "\ninterrupting: the runs under way save a checkpoint "
                "(a second Ctrl-C does not wait for them)",
                flush=True,
            )
        for file in self.folder.outcomes():
            if file.stem not in self.outcomes:
                self._take(Outcome.read(file))

    def _take(self, outcome: Outcome) -> None:
        if outcome.status == "waiting":
            if outcome.name not in self._waiting:
                print(f"waiting for the process that trains in {outcome.run_dir}", flush=True)
            self._waiting.add(outcome.name)
            return
        self.outcomes[outcome.name] = outcome
        if outcome.status not in ("interrupted", "not begun"):
            print(f"{self._count()} {_line(outcome)}{self._time_left()}", flush=True)

    def _count(self) -> str:
        return f"{len(self.outcomes)}" + ("" if self.jobs is None else f"/{len(self.jobs)}")

    def _time_left(self) -> str:
        trained = sum(o.status in ("finished", "resumed") for o in self.outcomes.values())
        left = 0 if self.jobs is None else len(self.jobs) - len(self.outcomes)
        if not trained or not left:
            return ""
        return f"; about {_duration((time.monotonic() - self._began) / trained * left)} left"


def summarize(folder: SweepDirectory, progress: Progress) -> Counter[str]:
    """Write ``sweep.json``, print how many runs ended how, and return that."""
    known = dict(progress.outcomes)
    for job in progress.jobs or ():
        known.setdefault(job.name, Outcome(job.name, str(job.run_dir), job.status))
    outcomes = sorted(known.values(), key=lambda outcome: outcome.name)
    with written_whole(folder.summary) as aside:
        aside.write_text(json.dumps({"runs": [asdict(o) for o in outcomes]}, indent=1) + "\n")
    counts = Counter(outcome.status for outcome in outcomes)
    print(f"\n{folder}:")
    for status in STATUSES:
        if counts[status]:
            print(f"  {status:12}{counts[status]:5}")
        for outcome in outcomes:
            if outcome.status == status == "failed":
                print(f"    {outcome.run_dir}: {outcome.reason}")
    return counts


def _line(outcome: Outcome) -> str:
    if outcome.status == "skipped":
        return f"{outcome.run_dir} is finished"
    if outcome.status == "failed":
        return f"{outcome.run_dir} failed: {outcome.reason}"
    return (
        f"{outcome.run_dir} {outcome.status}: mean return {outcome.mean_return:.4g}, "
        f"{_duration(outcome.seconds)}"
    )


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
