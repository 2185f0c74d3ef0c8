"""``equirl train``: trains an agent and leaves everything about it in a run directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import torch
from omegaconf import DictConfig, OmegaConf
from stable_baselines3 import DQN
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from equirl.agents.native.native_network import parameter_count
from equirl.agents.saving.hub import local_agent
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.agents.training.checkpoint_callback import CheckpointCallback
from equirl.agents.training.worker_processes import WorkerProcesses
from equirl.commands.environments import check_run_dir, environment_maker
from equirl.commands.signals import Interruption
from equirl.commands.training.interruption import explained
from equirl.commands.training.model import build_model
from equirl.commands.training.run import EVALUATION_SEED, FINAL_EVALUATION_SEED, Training, warn
from equirl.commands.training.settings import check_settings, needs_symmetry
from equirl.configs.schema import TrainConfig
from equirl.envs.running.guarded import GuardedEnv
from equirl.envs.running.resumable import ResumableEnv
from equirl.errors import ConfigError
from equirl.runs.provenance import version_differences, write_provenance
from equirl.runs.run_directory import (
    finished_return,
    given_keys,
    held,
    repeated_config,
    resumed_config,
    write_config,
)
from equirl.symmetry import Symmetry


def train(config: DictConfig) -> float:
    """Train as configured; returns the best model's mean return over fresh episodes."""
    resumes, source = config.resume is not None, config.resume or config.repeat
    if resumes and config.repeat is not None:
        raise ConfigError("resume= goes on with a run, repeat= begins it anew: say one of them")
    if resumes:
        config = resumed_config(config)
    elif source is not None:
        config = repeated_config(config)
    settings = cast(TrainConfig, OmegaConf.to_object(config))
    run_dir = Path(settings.run_dir)
    if resumes:
        finished = finished_return(run_dir, settings)
        if finished is not None:
            return finished
    else:
        check_run_dir(run_dir)
    check_settings(settings)
    differences = None if source is None else version_differences(Path(source))
    if differences is not None:
        warn(differences)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)

    checkpoints = CheckpointCallback(run_dir / "checkpoints", settings.checkpoint_every)
    interruption = Interruption()
    with explained(interruption, lambda: _what_remains(run_dir, checkpoints)):
        agent = None
        if settings.pretrained is not None and not checkpoints.paths():
            agent = read_agent(local_agent(settings.pretrained))
            if not agent.is_native:  # whose weights are shaped otherwise
                _check_widths(settings, agent)
                config.env.net_arch = settings.env.net_arch = agent.net_arch
        make_env, symmetry = environment_maker(settings.env, needs_symmetry(settings))
        with closing(_environments(settings, make_env)) as env:
            model = build_model(settings, env, symmetry)
            if agent is not None:
                agent.give_weights(model)
                model.q_net_target.load_state_dict(model.q_net.state_dict())
            if not resumes:
                _begin(run_dir, config, settings)
            with held(run_dir):
                training = Training(config, settings, model, make_env, symmetry, checkpoints)
                training.prepare(resumes)
                print(_headline(settings, model, symmetry))
                return training.run(interruption)


def _check_widths(settings: TrainConfig, agent: SavedAgent) -> None:
    if "env.net_arch" in given_keys() and settings.env.net_arch != agent.net_arch:
        raise ConfigError(
            f"env.net_arch={settings.env.net_arch} beside pretrained= would be another network: "
            f"that agent's is {agent.net_arch}"
        )


def _begin(run_dir: Path, config: DictConfig, settings: TrainConfig) -> None:
    """Make the run directory, which is there with its configuration or not at all."""
    seeds = {
        "training": settings.seed,
        "evaluation": EVALUATION_SEED,
        "final evaluation": FINAL_EVALUATION_SEED,
    }
    aside = run_dir.with_name(f".{run_dir.name}.beginning")
    try:
        with _refused_as_config_error(run_dir):
            shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed here
            aside.mkdir(parents=True)
        write_config(config, aside)
        write_provenance(aside, seeds)
        with _refused_as_config_error(run_dir):
            aside.rename(run_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _refused_as_config_error(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{run_dir} cannot be made: {error.strerror}") from error


def _environments(settings: TrainConfig, make_env: Callable[[], gym.Env[Any, Any]]) -> VecEnv:
    def make() -> gym.Env[Any, Any]:
        return ResumableEnv(Monitor(GuardedEnv(make_env())))

    kind = WorkerProcesses if settings.env.subprocess else DummyVecEnv
    return kind([make] * settings.env.n_envs)


def _what_remains(run_dir: Path, checkpoints: CheckpointCallback) -> str:
    resume = f"equirl train resume={run_dir}"
    paths = checkpoints.paths()
    if paths:
        return f"{resume} goes on from step {paths[-1].stem.removeprefix('step_')}"
    if not (run_dir / "config.yaml").exists():
        return "nothing was written"
    return f"no checkpoint was saved yet, {resume} starts over"


def _headline(settings: TrainConfig, model: DQN, symmetry: Symmetry | None) -> str:
    group = "" if symmetry is None else f", |G| = {symmetry.group.order}"
    return (
        f"training {settings.method.name} on {settings.env.id}{group}, "
        f"{parameter_count(model.q_net)} parameters, "
        f"{settings.total_timesteps} steps, seed {settings.seed}, {model.device}"
    )
