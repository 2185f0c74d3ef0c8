"""What a launcher calls for each job of a sweep, in whichever process and on whichever machine.

The training itself gets a process of its own: where that one crashes, or is killed because the
memory is full, the sweep goes on. It ends when its standard input does, so it never outlives the
process that started it, not even if that one is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO

from omegaconf import DictConfig, OmegaConf

from equirl.commands.signals import SIGNALS, Interruption
from equirl.commands.sweep.jobs import Job, Outcome, current_job
from equirl.errors import EquirlError
from equirl.runs.run_directory import RunDirectory, locked

POLL_SECONDS = 0.3

PARENT = os.getppid()
"""Of this process, when it was new."""

# The current folder is not a place for modules before `train` makes it one.
PROGRAM = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
from equirl.commands.sweep.process import main
main()
"""


def run_job(config: DictConfig) -> float:
    """Bring one job to its end, or find that it is there already.

    Args:
        config: the job's.

    Returns:
        The best model's mean return, for a sweeper that optimises; NaN if there is none.
    """
    job, started = current_job(config), time.monotonic()
    job.sweep.jobs.mkdir(parents=True, exist_ok=True)
    with _noted_signals() as interruption, job.log.open("a") as log:

        def ends() -> bool:
            return job.sweep.stop.exists() or interruption.signal is not None

        status, reason = _brought_to_an_end(job, log, ends)
    result = (
        RunDirectory(job.run_dir).read_result()
        if status in ("finished", "resumed", "skipped")
        else None
    )
    mean_return = None if result is None else float(result["best_mean_return"])
    seconds = round(time.monotonic() - started, 1)
    outcome = Outcome(job.name, str(job.run_dir), status, mean_return, seconds, reason)
    outcome.write(job.file)
    return float("nan") if mean_return is None else mean_return


def _brought_to_an_end(job: Job, log: IO[str], ends: Callable[[], bool]) -> tuple[str, str]:
    """Status and reason."""
    waits = False
    while not (free := locked(log.fileno())) and not ends():
        if not waits:
            Outcome(job.name, str(job.run_dir), "waiting").write(job.file)
        waits = True
        time.sleep(POLL_SECONDS)
    if not free or ends():
        return job.status, ""
    try:
        resumes = job.resumes
        changes = job.changes() if resumes else []
        if resumes and job.finished_return() is not None:
            return "skipped", ""
    except EquirlError as error:
        return "failed", str(error)
    code = _trained(job, changes if resumes else None, log, ends)
    if code == 0:
        return "resumed" if resumes else "finished", ""
    if ends():
        return "interrupted", ""
    return "failed", _reason(job, code)


def _trained(job: Job, changes: list[str] | None, log: IO[str], ends: Callable[[], bool]) -> int:
    """Train in a process of its own; returns its exit code, negative for a signal.

    Args:
        job: what to train.
        changes: what to resume its run with; None begins a new one.
        log: gets what it prints.
        ends: whether the sweep is over.
    """
    config = job.config.copy()
    given = [*job.given, f"run_dir={job.run_dir}"]
    if changes is not None:
        config.resume = str(job.run_dir)
        given = [f"resume={job.run_dir}", *changes, "progress=false"]
    task = {"config": OmegaConf.to_yaml(config, resolve=True), "given": given}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the sweep, which ends its trainings one by one
    ) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            while not ends():
                try:
                    return process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        except BrokenPipeError:  # it died before it had read its task
            pass
        finally:
            process.stdin.close()
        return process.wait()


def _reason(job: Job, code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        full = ", as the system does when memory is full" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{full}; {job.log}"
    lines = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else f"exit code {code}"
    said = last.removeprefix("equirl train: ")
    return said if last != said else f"{said}; {job.log}"


@contextmanager
def _noted_signals() -> Iterator[Interruption]:
    """Of this process; where that is the sweep's own, those that the sweep notes."""
    owner = getattr(signal.getsignal(SIGNALS[0]), "__self__", None)
    if isinstance(owner, Interruption):
        yield owner
    else:
        _end_with_parent()
        with Interruption() as interruption:
            yield interruption


@cache
def _end_with_parent() -> None:
    """Let this process, a worker, end when the one that started it does, and its training too."""

    def watch() -> None:
        while os.getppid() == PARENT:
            time.sleep(POLL_SECONDS)
        os._exit(1)  # Joblib's workers would wait for jobs for ever

    threading.Thread(target=watch, daemon=True).start()
