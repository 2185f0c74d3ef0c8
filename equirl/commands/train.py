"""``equirl train``: trains an agent and leaves everything about it in a run directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import gymnasium as gym
import torch
from omegaconf import DictConfig, OmegaConf
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from equirl.agents.saving.hub import local_agent
from equirl.agents.saving.normalised import normalises_itself, trained_normalised
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.agents.training.checkpoint_callback import CheckpointCallback
from equirl.agents.training.worker_processes import WorkerProcesses
from equirl.commands.composition import given_keys
from equirl.commands.environments import environment_maker
from equirl.commands.filming import pictured
from equirl.commands.signals import Interruption
from equirl.commands.training.earlier_run import (
    finished_return,
    repeated_config,
    resumed_config,
)
from equirl.commands.training.extensions import callbacks_named, logged_by
from equirl.commands.training.interruption import explained
from equirl.commands.training.model import build_model, flattens_images
from equirl.commands.training.normalising import normalised
from equirl.commands.training.run import (
    CONFIRMATION_SEED,
    EVALUATION_SEED,
    FINAL_EVALUATION_SEED,
    Training,
    learned_parameters,
    warn,
)
from equirl.commands.training.settings import check_settings, needs_symmetry
from equirl.configs.keys import flattened
from equirl.configs.schema import TrainConfig
from equirl.envs.running.guarded import GuardedEnv
from equirl.envs.running.resumable import ResumableEnv
from equirl.errors import AgentError, ConfigError
from equirl.runs.provenance import version_differences, write_provenance
from equirl.runs.run_directory import RunDirectory
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
    run = RunDirectory(settings.run_dir)
    if resumes:
        finished = finished_return(run, settings)
        if finished is not None:
            return finished
    else:
        run.check_new()
    check_settings(settings)
    differences = None if source is None else version_differences(RunDirectory(source))
    if differences is not None:
        warn(differences)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)

    checkpoints = CheckpointCallback(run.checkpoints, settings.checkpoint_every)
    interruption = Interruption()
    with explained(interruption, lambda: _what_remains(run, checkpoints)):
        callbacks = callbacks_named(settings.callbacks)
        make_drawing = pictured(settings.env) if settings.video else None
        agent = None
        if settings.pretrained is not None and not checkpoints.paths():
            agent = read_agent(local_agent(settings.pretrained))
            if agent.architecture.algorithm != "dqn":
                raise ConfigError(
                    f"pretrained: {agent.path} must be an agent of dqn, as what is trained, got "
                    f"{agent.architecture.algorithm}"
                )
            if trained_normalised(agent) or normalises_itself(agent):
                raise ConfigError(
                    f"pretrained: {agent.path} acts on normalised observations, whose statistics "
                    "do not come along: equirl transfer normalize=FILE stage=finetune trains it on "
                    "with them, or in Python from_pretrained"
                )
            if not agent.is_native:  # whose weights are shaped otherwise
                _check_widths(settings, agent)
                config.algorithm.net_arch = settings.algorithm.net_arch = agent.net_arch
                _keep_relaxed(config, settings, agent)
        if resumes:
            _keep_to_checkpoints(config, settings, checkpoints)
        make_env, symmetry = environment_maker(settings.env, needs_symmetry(settings))
        with closing(normalised(settings, _environments(settings, make_env), symmetry)) as env:
            model = build_model(settings, env, symmetry)
            if agent is not None:
                agent.give_weights(model)
                model.q_net_target.load_state_dict(model.q_net.state_dict())
            if flattens_images(settings, env.observation_space):
                warn(
                    f"algorithm.policy=MlpPolicy flattens images of {env.observation_space.shape}: "
                    "algorithm.policy=CnnPolicy has convolutions"
                )
            if not resumes:
                _begin(run, config, settings)
            keys = flattened(OmegaConf.to_container(config, resolve=True))
            logged = logged_by(settings.loggers, run.path, keys, is_new=not resumes)
            with run.held(), logged as (logging, outputs):
                training = Training(run, config, settings, model, make_env, symmetry, checkpoints)
                training.add_callbacks([*callbacks, *logging])
                training.make_drawing = make_drawing
                training.prepare(resumes)
                model.logger.output_formats += outputs
                print(_headline(settings, model, symmetry))
                return training.run(interruption)


def _check_widths(settings: TrainConfig, agent: SavedAgent) -> None:
    if "algorithm.net_arch" in given_keys() and settings.algorithm.net_arch != agent.net_arch:
        raise ConfigError(
            f"algorithm.net_arch={settings.algorithm.net_arch} beside pretrained= would be another "
            f"network: that agent's is {agent.net_arch}"
        )


def _keep_relaxed(config: DictConfig, settings: TrainConfig, agent: SavedAgent) -> None:
    method = vars(settings.method)
    inner = method.get("inner") if "method.inner" in given_keys() else None
    kept = agent.kept_of_relaxed(method["name"], inner, method.get("per_action"))
    config.method.update(kept)
    method.update(kept)


def _keep_to_checkpoints(
    config: DictConfig, settings: TrainConfig, checkpoints: CheckpointCallback
) -> None:
    """What is null in a configuration has meant another kind of α once."""
    if vars(settings.method)["name"] != "relaxed":
        return
    for path in reversed(checkpoints.paths()):
        try:
            agent = read_agent(path)
        except AgentError:  # damaged: training goes on from the one before
            continue
        _keep_relaxed(config, settings, agent)
        return


def _begin(run: RunDirectory, config: DictConfig, settings: TrainConfig) -> None:
    """Make the run directory, which is there with its configuration or not at all."""
    seeds = {
        "training": settings.seed,
        "evaluation": EVALUATION_SEED,
        "final evaluation": FINAL_EVALUATION_SEED,
        "confirmation": CONFIRMATION_SEED,
    }
    with run.begun() as new:
        new.write_config(OmegaConf.to_yaml(config, resolve=True))
        write_provenance(new, seeds)


def _environments(settings: TrainConfig, make_env: Callable[[], gym.Env[Any, Any]]) -> VecEnv:
    def make() -> gym.Env[Any, Any]:
        return ResumableEnv(Monitor(GuardedEnv(make_env())))

    kind = WorkerProcesses if settings.algorithm.subprocess else DummyVecEnv
    return kind([make] * settings.algorithm.n_envs)


def _what_remains(run: RunDirectory, checkpoints: CheckpointCallback) -> str:
    resume = f"equirl train resume={run}"
    if checkpoints.last_step is not None:
        return f"{resume} goes on from step {checkpoints.last_step}"
    if not run.is_begun:
        return "nothing was written"
    return f"no checkpoint was saved yet, {resume} starts over"


def _headline(settings: TrainConfig, model: BaseAlgorithm, symmetry: Symmetry | None) -> str:
    group = "" if symmetry is None else f", |G| = {symmetry.group.order}"
    return (
        f"training {settings.algorithm.name}, {settings.method.name}, on {settings.env.id}{group}, "
        f"{learned_parameters(model)} parameters, "
        f"{settings.total_timesteps} steps, seed {settings.seed}, {model.device}"
    )
