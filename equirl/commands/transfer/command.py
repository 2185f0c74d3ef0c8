"""``equirl transfer``: what a plain, trained agent gains from symmetry, and the best version."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast, get_args

import torch
from omegaconf import DictConfig, OmegaConf

from equirl.agents.training.checkpoints import save_atomically
from equirl.agents.transfer import VERSIONS, Stage, transfer_agent
from equirl.agents.transfer.fine_tuning import gentle
from equirl.agents.transfer.weight_learning import FEWEST_STEPS
from equirl.commands.composition import given_keys
from equirl.commands.environments import check_device, check_run_dir, environment_maker
from equirl.commands.loading import environment_of, named_agent, with_agent
from equirl.commands.transfer.report import plot, print_report, write_report
from equirl.configs.schema import TransferConfig
from equirl.errors import AgentError, ConfigError
from equirl.symmetrize import METHODS


def transfer(config: DictConfig) -> str:
    """Compare the versions as configured; returns the name of the one that was saved."""
    settings = cast(TransferConfig, with_agent(config))
    _check(settings)
    check_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    agent = named_agent(settings)
    if agent.is_equivariant:
        raise AgentError(f"{agent.path} is equivariant already: give a plain SB3 agent")
    environment = environment_of(agent, settings.env)
    is_dict, many = agent.observation_space.is_dict, (settings.finetune.n_steps or 1) > 1
    if is_dict and many and "finetune.n_steps" in given_keys():
        raise ConfigError("finetune.n_steps must be 1 for Dict observations, or left out")
    config.env = environment
    run_dir = Path(config.run_dir)  # whose default names the environment
    check_run_dir(run_dir)
    make_env, _ = environment_maker(environment)
    result = transfer_agent(
        agent,
        make_env,
        stage=cast(Stage, settings.stage),
        methods=settings.methods,
        betas=settings.betas,
        episodes=settings.episodes,
        seed=settings.seed,
        weight_steps=settings.weights.steps,
        finetune_method=settings.finetune.method,
        finetune_steps=settings.finetune.steps,
        finetune_every=settings.finetune.every,
        finetune_episodes=settings.finetune.episodes,
        normalize=settings.normalize,
        finetune_kwargs=gentle(
            agent.architecture.algorithm,
            settings.finetune.learning_rate,
            settings.finetune.n_steps,
            settings.finetune.exploration_initial_eps,
            is_dict=agent.observation_space.is_dict,
        ),
        learning_seed=settings.learning_seed,
        device=settings.device,
        progress=settings.progress,
    )
    run_dir.mkdir(parents=True)
    save_atomically(result.model, run_dir / "best_model.zip")
    OmegaConf.save(config, run_dir / "config.yaml", resolve=True)
    write_report(result, run_dir / "transfer.json")
    plot(result, run_dir / "transfer.png")
    print_report(result, f"{agent.path.name} on {environment.id}")
    print(f"report: {run_dir / 'transfer.json'}, {run_dir / 'transfer.png'}")
    print(f"saved: {run_dir / 'best_model.zip'} ({result.chosen})")
    return result.chosen


def _check(settings: TransferConfig) -> None:
    _check_known("stage", settings.stage, get_args(Stage))
    if settings.episodes < 2:
        raise ConfigError(f"episodes must be at least 2, got {settings.episodes}")
    if not settings.methods and settings.stage == "zero_shot" and not settings.betas:
        raise ConfigError(f"methods: name at least one of {', '.join(VERSIONS)}")
    for method in settings.methods:
        _check_known("methods", method, VERSIONS)
    _check_known("finetune.method", settings.finetune.method, tuple(METHODS))
    for beta in settings.betas:
        if not math.isfinite(beta):
            raise ConfigError(f"betas must be finite, got {beta}: equizero is the infinite one")
    at_least: dict[str, tuple[Any, int]] = {
        "weights.steps": (settings.weights.steps, FEWEST_STEPS),
        "finetune.steps": (settings.finetune.steps, 1),
        "finetune.every": (settings.finetune.every, 1),
        "finetune.episodes": (settings.finetune.episodes, 1),
        "finetune.n_steps": (settings.finetune.n_steps, 1),
        "learning_seed": (settings.learning_seed, 0),
        "seed": (settings.seed, settings.finetune.episodes),
    }
    for name, (value, least) in at_least.items():
        if value is not None and value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    rate, eps = settings.finetune.learning_rate, settings.finetune.exploration_initial_eps
    if rate not in (None, "auto") and not _is_rate(rate):
        raise ConfigError(f"finetune.learning_rate must be above 0, auto or null, got {rate}")
    if eps is not None and not 0 <= eps <= 1:
        raise ConfigError(f"finetune.exploration_initial_eps must lie in [0, 1], got {eps}")


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and value is not True and 0 < value < math.inf


def _check_known(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{key}: {value!r} is unknown, say one of {', '.join(known)}")
