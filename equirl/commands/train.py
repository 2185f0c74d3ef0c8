"""``equirl train``: trains an agent and leaves everything about it in a run directory."""

from __future__ import annotations

import json
import time
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import Any, cast, get_args

import torch
from gymnasium import spaces
from omegaconf import DictConfig, OmegaConf
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat, configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from equirl.agents import (
    DeviceDictReplayBuffer,
    DeviceReplayBuffer,
    EquivariantDQN,
    OrbitDictReplayBuffer,
    OrbitReplayBuffer,
)
from equirl.agents.callbacks import (
    CheckpointCallback,
    EquivarianceCallback,
    EvaluationCallback,
    save_atomically,
)
from equirl.agents.evaluation import Episodes, play_episodes
from equirl.agents.policies import CanonicalScore
from equirl.commands.environments import (
    check_device,
    check_run_dir,
    environment_maker,
    imported,
)
from equirl.commands.mistakes import nearest
from equirl.configs.schema import EnvConfig, TrainConfig
from equirl.errors import ConfigError
from equirl.symmetrize import Gradient, Init, Method
from equirl.symmetry import Symmetry

EVALUATION_SEED = 1_000_000
FINAL_EVALUATION_SEED = 2_000_000
"""Far from the training seeds and from each other: the final episodes are fresh ones."""

CHOICES = {
    "env.policy": ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"),
    "method.name": ("plain", "augment", *get_args(Method)),
    "method.gradient": get_args(Gradient),
    "method.init": get_args(Init),
    "method.canonical_score": get_args(CanonicalScore),
}
"""What a key may say."""

LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "total_timesteps": (1, inf),
    "checkpoint_every": (0, inf),
    "threads": (1, inf),
    "eval.every": (1, inf),
    "eval.episodes": (1, inf),
    "eval.final_episodes": (1, inf),
    "method.orbit_samples": (1, inf),
    "env.n_envs": (1, inf),
    "env.frame_stack": (1, inf),
    "env.net_arch": (1, inf),
    "env.dqn.learning_rate": (0, 1e9),
    "env.dqn.buffer_size": (1, inf),
    "env.dqn.learning_starts": (0, inf),
    "env.dqn.batch_size": (1, inf),
    "env.dqn.tau": (0, 1),
    "env.dqn.gamma": (0, 1),
    "env.dqn.train_freq": (1, inf),
    "env.dqn.gradient_steps": (-1, inf),
    "env.dqn.n_steps": (1, inf),
    "env.dqn.target_update_interval": (1, inf),
    "env.dqn.exploration_fraction": (0, 1),
    "env.dqn.exploration_initial_eps": (0, 1),
    "env.dqn.exploration_final_eps": (0, 1),
    "env.dqn.max_grad_norm": (0, inf),
}
"""The least and the most that a number, or each number of a list, may be."""


def train(config: DictConfig) -> float:
    """Train as configured; returns the best model's mean return over fresh episodes."""
    settings = cast(TrainConfig, OmegaConf.to_object(config))
    run_dir = Path(settings.run_dir)
    _check(settings, run_dir)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)

    make_env, symmetry = environment_maker(
        settings.env, needs_symmetry=settings.method.name != "plain"
    )
    env = DummyVecEnv([lambda: Monitor(make_env())] * settings.env.n_envs)
    model = build_model(settings, env, symmetry)

    try:
        run_dir.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{run_dir} cannot be made: {error.strerror}") from error
    OmegaConf.save(config, run_dir / "config.yaml", resolve=True)
    model.set_logger(configure(str(run_dir / "tensorboard"), ["tensorboard"]))
    _write_config_tab(model, config)
    print(_headline(settings, model, symmetry))

    seeds = range(EVALUATION_SEED, EVALUATION_SEED + settings.eval.episodes)
    evaluation = EvaluationCallback(
        make_env, run_dir, settings.eval.every, seeds, settings.env.target_return
    )
    callbacks: list[BaseCallback] = [EquivarianceCallback(), evaluation]
    if settings.checkpoint_every > 0:
        callbacks.append(CheckpointCallback(run_dir / "checkpoints", settings.checkpoint_every))
    started = time.monotonic()
    model.learn(settings.total_timesteps, callback=callbacks, progress_bar=settings.progress)
    seconds = time.monotonic() - started
    if not evaluation.history or evaluation.history[-1][0] != model.num_timesteps:
        evaluation.evaluate()
    save_atomically(model, run_dir / "final_model.zip")

    best = type(model).load(evaluation.best_path, device=settings.device, buffer_size=1)
    fresh = range(FINAL_EVALUATION_SEED, FINAL_EVALUATION_SEED + settings.eval.final_episodes)
    final = play_episodes(best, make_env, fresh)
    _finish(run_dir, config, model, final, seconds)
    return final.mean


def build_model(settings: TrainConfig, env: DummyVecEnv, symmetry: Symmetry | None) -> DQN:
    """The model that the configuration describes.

    Raises:
        ConfigError: SB3 refuses a hyper-parameter.
    """
    arguments: dict[str, Any] = {
        "seed": settings.seed,
        "device": settings.device,
        "policy_kwargs": _policy_kwargs(settings.env),
        **vars(settings.env.dqn),
    }
    method = settings.method
    is_dict = isinstance(env.observation_space, spaces.Dict)
    if is_dict != (settings.env.policy == "MultiInputPolicy"):
        raise ConfigError(
            "env.policy must be MultiInputPolicy for Dict observations, and for no others, got "
            f"{settings.env.policy} for {env.observation_space}"
        )
    if settings.device_replay:
        arguments["replay_buffer_class"] = DeviceDictReplayBuffer if is_dict else DeviceReplayBuffer
    try:
        if method.name == "plain":
            return DQN(settings.env.policy, env, **arguments)
        assert symmetry is not None
        if method.name == "augment":
            arguments["replay_buffer_class"] = (
                OrbitDictReplayBuffer if is_dict else OrbitReplayBuffer
            )
            arguments["replay_buffer_kwargs"] = {"symmetry": symmetry}
            return DQN(settings.env.policy, env, **arguments)
        return EquivariantDQN(
            settings.env.policy,
            env,
            symmetry=symmetry,
            method=cast(Any, method.name),
            gradient=cast(Any, method.gradient),
            init=cast(Any, method.init),
            canonical_score=cast(Any, method.canonical_score),
            orbit_samples=method.orbit_samples,
            compile=settings.compile,
            bf16=settings.bf16,
            **arguments,
        )
    except (ValueError, AssertionError, MemoryError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except RuntimeError as error:  # how a network says that it cannot take such inputs
        raise ConfigError(
            f"{settings.env.policy} does not fit observations of shape "
            f"{env.observation_space.shape}: {str(error).splitlines()[0]}"
        ) from error


def _policy_kwargs(config: EnvConfig) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if config.net_arch is not None:
        kwargs["net_arch"] = config.net_arch
    if config.features is not None:
        kwargs["features_extractor_class"] = imported(config.features)
    return kwargs


def _check(settings: TrainConfig, run_dir: Path) -> None:
    check_run_dir(run_dir)
    check_device(settings.device)
    for key, choices in CHOICES.items():
        value = attrgetter(key)(settings)
        if value not in choices:
            raise ConfigError(
                f"{key} must be one of {', '.join(choices)}, got {value!r}{nearest(value, choices)}"
            )
    _check_options(settings)
    for key, (least, most) in LIMITS.items():
        value = attrgetter(key)(settings)
        for number in value if isinstance(value, list) else [] if value is None else [value]:
            if not least <= number <= most:
                bounds = f"at least {least}" if most == inf else f"between {least} and {most}"
                raise ConfigError(f"{key} must be {bounds}, got {number}")


def _check_options(settings: TrainConfig) -> None:
    """Refuse options that the method would silently not heed."""
    name = settings.method.name
    if settings.method.orbit_samples is not None and name != "equitune":
        raise ConfigError(f"method.orbit_samples is for method=equitune, got method={name}")
    for option in ("compile", "bf16"):
        if getattr(settings, option) and name in ("plain", "augment"):
            raise ConfigError(f"{option} is for the equivariant methods, {name} is SB3's own DQN")
    if settings.device_replay and name == "augment":
        raise ConfigError("device_replay does not go with method=augment, which has its own buffer")


def _headline(settings: TrainConfig, model: DQN, symmetry: Symmetry | None) -> str:
    group = "" if symmetry is None else f", |G| = {symmetry.group.order}"
    return (
        f"training {settings.method.name} on {settings.env.id}{group}, "
        f"{settings.total_timesteps} steps, seed {settings.seed}, {model.device}"
    )


def _write_config_tab(model: DQN, config: DictConfig) -> None:
    for output in model.logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            text = OmegaConf.to_yaml(config, resolve=True)
            output.writer.add_text("config", "    " + text.replace("\n", "\n    "))


def _finish(run_dir: Path, config: DictConfig, model: DQN, final: Episodes, seconds: float) -> None:
    """Write and print the result."""
    flat: dict[str, bool | str | float | int | None] = {
        key: value if isinstance(value, int | float | str) else str(value)
        for key, value in _flattened(OmegaConf.to_container(config, resolve=True)).items()
    }
    metrics: dict[str, float | int] = {"final/mean_return": final.mean}
    model.logger.record("final/mean_return", final.mean)
    model.logger.record("hparams", HParam(flat, metrics))
    model.logger.dump(model.num_timesteps)
    model.logger.close()
    result = {
        "env": config.env.id,
        "method": config.method.name,
        "seed": config.seed,
        "best_mean_return": round(final.mean, 4),
        "half_width_95": round(final.half_width, 4),
        "episodes": len(final.returns),
        "steps": model.num_timesteps,
        "seconds": round(seconds, 1),
    }
    (run_dir / "result.json").write_text(json.dumps(result) + "\n")
    print(f"best model: mean return {final}, none of them seen in training")
    print(f"            {run_dir / 'best_model.zip'}, {model.num_timesteps} steps, {seconds:.0f} s")
    print(f"curves:     tensorboard --logdir {run_dir}")


def _flattened(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    flat = {}
    for key, value in node.items():
        flat.update(_flattened(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat
