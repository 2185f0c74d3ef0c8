"""``equirl train -m``: many runs, each in a folder where the same command finds it again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from equirl.commands.mistakes import MISTAKES
from equirl.commands.signals import Interruption
from equirl.commands.sweep.jobs import Job, current_job, sweep_name
from equirl.commands.sweep.progress import Progress, summarize
from equirl.errors import ConfigError, RunError
from equirl.runs.run_directory import RunDirectory, SweepDirectory, locked

SWEEPS = Path("runs/sweeps")

LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", "sweep"),
    "submitit_local": ("hydra_submitit_launcher", "sweep"),
    "submitit_slurm": ("hydra_submitit_launcher", "sweep"),
    "ray": ("hydra_ray_launcher", "ray"),
}
"""Hydra's launchers: the plugin that brings each, and the extra that brings the plugin."""

LAUNCHER_ARGUMENTS = {
    # Joblib would hand out finished runs in ever larger batches, and then others as well.
    "joblib": ("hydra.launcher.batch_size=1",),
    # The plugin gives an object store's size, which Ray refuses where it joins a cluster.
    "ray": ("++hydra.launcher.ray.init.object_store_memory=null",),
}
"""What they are told, unless the command line does."""

_current: list[Sweep] = []
"""The sweep that Hydra is at: it makes the callback, not we."""


def is_sweep(overrides: Iterable[str]) -> bool:
    """Whether these arguments ask for several runs."""
    return not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(overrides)


def sweep_arguments(overrides: Iterable[str]) -> list[str]:
    """What is to be added to the arguments of a sweep: its folder, and how runs are started."""
    given = {key.lstrip("+"): value for key, _, value in (o.partition("=") for o in overrides)}
    more = []
    if "hydra.sweep.dir" not in given:
        more.append(f"hydra.sweep.dir='{SWEEPS / sweep_name(overrides)}'")
    launcher = given.get("hydra/launcher")
    if launcher is None:
        launcher = "joblib" if _is_installed("joblib") else "basic"
        more.append(f"hydra/launcher={launcher}")
        if launcher == "basic":
            print(
                "equirl train: one run at a time; several side by side need "
                'pip install "equirl[sweep]"',
                file=sys.stderr,
            )
    for argument in LAUNCHER_ARGUMENTS.get(launcher, ()):
        if argument.partition("=")[0].lstrip("+") not in given:
            more.append(argument)
    if launcher in LAUNCHERS and not _is_installed(launcher):
        raise ConfigError(
            f'hydra/launcher={launcher} needs pip install "equirl[{LAUNCHERS[launcher][1]}]"'
        )
    return more


def sweep(launch: Callable[[], Any]) -> None:
    """Run Hydra's multirun from beginning to end.

    Raises:
        RunError: some runs failed, or it was interrupted.
    """
    try:
        _launched(launch)
    finally:
        _current.clear()


def _launched(launch: Callable[[], Any]) -> None:
    error: BaseException | None = None
    try:
        launch()
    except (Exception, KeyboardInterrupt) as raised:
        if not _current:  # nothing was begun
            raise
        error = raised
    if _current:
        _current[0].end(error)


class SweepCallback(Callback):
    """Begins the sweep, once Hydra has read what it is to be."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Plan and check all its runs; a mistake ends it before anything is written."""
        from equirl.commands import answered

        # Hydra lets no exception of a callback through, but SystemExit.
        _current.append(answered("train", Sweep, config))


class Sweep:
    """A sweep that is under way: its folder is held, its progress printed, its signals noted.

    Args:
        config: of the sweep, with Hydra's own part.

    Raises:
        ConfigError: one of the runs cannot be begun, or another process is at this sweep.
    """

    def __init__(self, config: DictConfig) -> None:
        self.folder = SweepDirectory(Path(config.hydra.sweep.dir))
        _check_launcher(config)
        jobs = _planned(config)
        if jobs is not None:
            _give_every_worker_a_job(config, len(jobs))
        self.interruption = Interruption()
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._hold(stack)
            self.folder.stop.unlink(missing_ok=True)
            for file in self.folder.outcomes():
                file.unlink()
            stack.enter_context(self.interruption)
            self.progress = Progress(self.folder, jobs, self.interruption)
            stack.enter_context(self.progress)
            self._stack = stack.pop_all()

    def end(self, error: BaseException | None) -> None:
        """Say what became of it all.

        Raises:
            RunError: not everything is finished.
        """
        with self._stack:
            if error is not None:  # workers that are left end their trainings
                self.folder.stop.touch()
            elif self.interruption.signal is not None:  # and have done so
                self.folder.stop.unlink(missing_ok=True)
        counts = summarize(self.folder, self.progress)
        again = "the same command again goes on where it stopped"
        fault = self.interruption.fault()
        if fault is not None:
            raise RunError(f"{fault}; {again}", fault.code)
        if error is not None:
            if isinstance(error, MISTAKES):
                raise error
            what = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
            raise RunError(f"the launcher failed ({what}); {again}") from error
        if counts["failed"]:
            raise RunError(f"{counts['failed']} of {len(self.progress.outcomes)} runs failed")
        if counts["interrupted"] or counts["not begun"]:
            raise RunError(f"not all runs were finished; {again}")

    def _hold(self, stack: ExitStack) -> None:
        try:
            self.folder.jobs.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder.path, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"{self.folder} cannot be made: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        if not locked(descriptor):
            raise ConfigError(f"another process runs the sweep in {self.folder}")


def _planned(config: DictConfig) -> list[Job] | None:
    """The jobs, checked; None where a sweeper decides about them on its way.

    Raises:
        ConfigError: one of them cannot be begun.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_", "")).endswith(BasicSweeper.__name__):
        return None
    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # ${seed} is a job's
    assert isinstance(task, list)
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *task])
    (batch,) = BasicSweeper.split_arguments(overrides, None)
    jobs: dict[str, Job] = {}
    checked: set[str] = set()
    before = HydraConfig.instance().cfg
    try:
        for job_overrides in batch:
            composed = loader.load_sweep_config(config, list(job_overrides))
            HydraConfig.instance().set_config(composed.copy())
            with open_dict(composed):
                del composed["hydra"]
            job = current_job(composed)
            _check(job, jobs.setdefault(job.name, job), checked)
    finally:
        HydraConfig.instance().cfg = before
    if not jobs:
        raise ConfigError("the sweep has no runs: something that it sweeps over is empty")
    return list(jobs.values())


def _check(job: Job, namesake: Job, checked: set[str]) -> None:
    """Refuse what would end a run at its beginning.

    Args:
        job: to check.
        namesake: the first job of this name.
        checked: environments that can be made.
    """
    # Imported here, so that workers, which only start trainings, need not load all this.
    from equirl.agents.saving.hub import local_agent
    from equirl.agents.saving.saved_agent import read_agent
    from equirl.commands.composition import check_actions
    from equirl.commands.environments import environment_maker
    from equirl.commands.training.settings import check_settings, needs_symmetry

    if namesake.config != job.config:
        if job.config.resume is not None:
            raise ConfigError(f"two jobs of the sweep would resume {job.run_dir}: one at a time")
        raise ConfigError(
            f"two runs of the sweep would share {job.run_dir}: sweep what tells them apart in its "
            "name, and leave out run_dir="
        )
    if job.config.resume is not None:
        return
    settings: Any = OmegaConf.to_object(job.config)
    check_settings(settings)
    if not job.run_dir.exists():
        RunDirectory(job.run_dir).check_new()
    elif not job.resumes:
        raise ConfigError(f"{job.run_dir} exists already and is not a run: remove it")
    if settings.pretrained is not None and not job.resumes:
        read_agent(local_agent(settings.pretrained))
    environment = f"{needs_symmetry(settings)} {settings.algorithm.name} {settings.env}"
    if environment not in checked:
        make_env, _ = environment_maker(settings.env, needs_symmetry(settings))
        with make_env() as env:
            check_actions(settings.algorithm.name, env.action_space)
        checked.add(environment)


def _check_launcher(config: DictConfig) -> None:
    if config.hydra.launcher.get("n_jobs") == 0:
        raise ConfigError("hydra.launcher.n_jobs must be at least 1, or -1 for all cores, got 0")
    slurm = str(config.hydra.launcher.get("_target_", "")).endswith("SlurmLauncher")
    if slurm and shutil.which("srun") is None:
        raise ConfigError(
            "hydra/launcher=submitit_slurm needs Slurm's sbatch and srun, which are not on the PATH"
        )


def _give_every_worker_a_job(config: DictConfig, jobs: int) -> None:
    """Idle workers of Joblib would not notice the end of the sweep."""
    workers = config.hydra.launcher.get("n_jobs")
    if workers is None:
        return
    import joblib

    with read_write(config.hydra):
        config.hydra.launcher.n_jobs = min(joblib.effective_n_jobs(workers), jobs)


def _is_installed(launcher: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{LAUNCHERS[launcher][0]}") is not None
    except ModuleNotFoundError:  # no plugin of Hydra's is
        return False
