"""What a run directory holds: the name of every file, and who may write there.

Imports nothing that takes time: `equirl report` and the workers of a sweep only look.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equirl.errors import ConfigError
from equirl.runs.atomic_write import remove_unfinished, written_whole


class RunDirectory:
    """The files of one run of a command, whether or not they are there.

    Args:
        path: the directory.

    Example:
        >>> RunDirectory("runs/one").result
        PosixPath('runs/one/result.json')
    """

    CONFIG = "config.yaml"
    EVALUATIONS = "evaluations.npz"
    PROVENANCE = "provenance.json"
    BEST_MODEL = "best_model.zip"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        # equirl train. The result is the mark of a finished run.
        self.config = self.path / self.CONFIG
        self.provenance = self.path / self.PROVENANCE
        self.evaluations = self.path / self.EVALUATIONS
        self.best_model = self.path / self.BEST_MODEL
        self.final_model = self.path / "final_model.zip"
        self.best_film = self.path / "best_model.gif"
        self.result = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.log_id = self.path / "log_id"
        # equirl transfer, which also writes config.yaml and best_model.zip.
        self.transfer_report = self.path / "transfer.json"
        self.transfer_figure = self.path / "transfer.png"
        # equirl check.
        self.check_report = self.path / "report.json"
        # equirl benchmark.
        self.benchmark_numbers = self.path / "benchmark.json"
        self.benchmark_figure = self.path / "cost.png"
        # equirl report, which also writes further tables, and figures as SVG and PNG.
        self.report_page = self.path / "report.html"
        self.report_text = self.path / "report.md"
        self.report_table = self.path / "report.csv"
        # equirl evaluate, beside the agent.
        self.videos = self.path / "videos"
        self.alpha_figure = self.path / "alpha.png"

    def __str__(self) -> str:
        return str(self.path)

    def version_evaluations(self, version: str) -> Path:
        """The evaluations of another version of the agent, such as ``zero_shot_equitune``."""
        return self.path / f"evaluations_{version}.npz"

    def all_version_evaluations(self) -> dict[str, Path]:
        """Those that there are, by version."""
        files = sorted(self.path.glob("evaluations_*.npz"))
        return {file.stem.removeprefix("evaluations_"): file for file in files}

    @property
    def is_begun(self) -> bool:
        """Whether there is a run to go on with."""
        return self.config.exists()

    def read_result(self) -> dict[str, Any] | None:
        """What a finished run came to; None for one that is not finished."""
        try:
            result: dict[str, Any] = json.loads(self.result.read_text())
        except (OSError, ValueError):
            return None
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        with written_whole(self.result) as aside:
            aside.write_text(json.dumps(result) + "\n")

    def write_config(self, text: str) -> None:
        """Write the configuration, as YAML without interpolations."""
        with written_whole(self.config) as aside:
            aside.write_text(text)

    def check_new(self) -> None:
        """Refuse a directory that is there already, or that cannot be made.

        Raises:
            ConfigError: see above.
        """
        path = self.path
        try:
            if path.exists():
                raise ConfigError(f"{path} exists already: choose another run_dir, or remove it")
        except OSError as error:
            raise ConfigError(f"run_dir cannot be {path}: {error.strerror}") from error
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{path} cannot be made: {above} is not a folder that can be written to"
            )

    @contextmanager
    def begun(self) -> Iterator[RunDirectory]:
        """A directory to write the first files to, which becomes this one once they are there.

        Raises:
            ConfigError: it cannot be made, or another process is making it.
        """
        aside = self.path.with_name(f".{self.path.name}.beginning")
        with self._refused():
            aside.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(aside, os.O_RDONLY)
        try:
            if not locked(descriptor):
                raise ConfigError(f"another process is beginning {self.path}")
            try:
                with self._refused():
                    for left in aside.iterdir():  # by a process that was killed here
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
                yield RunDirectory(aside)
                with self._refused():
                    aside.rename(self.path)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        finally:
            os.close(descriptor)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be made: {error.strerror}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory, so that no two processes train in it; a process's end frees it.

        Raises:
            ConfigError: another process holds it.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if not locked(descriptor):
                raise ConfigError(f"another process is training in {self.path}")
            remove_unfinished(self.path)
            yield
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove what training left, for it to begin anew."""
        statistics = self.path.glob("*.vecnormalize.pkl")
        evaluations = (*statistics, self.evaluations, *self.all_version_evaluations().values())
        for file in (self.best_model, self.final_model, self.best_film, self.result, *evaluations):
            file.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class SweepDirectory:
    """The files of a sweep; its runs lie beside them, each in its `RunDirectory`.

    Args:
        path: the directory.
    """

    path: Path

    @property
    def summary(self) -> Path:
        """What became of all jobs, once the sweep is over."""
        return self.path / "sweep.json"

    @property
    def jobs(self) -> Path:
        """The folder of what is known of each job."""
        return self.path / "jobs"

    @property
    def stop(self) -> Path:
        """A file that is there when the sweep is to end."""
        return self.jobs / "stop"

    def __str__(self) -> str:
        return str(self.path)

    def log(self, job: str) -> Path:
        """What a job's training prints; who trains holds a lock on it."""
        return self.jobs / f"{job}.log"

    def outcome(self, job: str) -> Path:
        """What became of a job."""
        return self.jobs / f"{job}.json"

    def outcomes(self) -> list[Path]:
        """Of all jobs, those that there are."""
        return sorted(file for file in self.jobs.glob("*.json") if not file.name.startswith("."))


def locked(descriptor: int) -> bool:
    """Lock an open file or folder unless somebody else has; false if so.

    Whoever inherits the descriptor holds the lock as well.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
