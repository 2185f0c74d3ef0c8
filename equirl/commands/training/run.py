"""One training in its run directory, from the beginning or from a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
from omegaconf import DictConfig, OmegaConf
from stable_baselines3 import A2C
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat, configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from equirl.agents import EquivarianceCallback, EvaluationCallback
from equirl.agents.training.checkpoint_callback import CheckpointCallback
from equirl.agents.training.checkpoints import Checkpoint
from equirl.agents.training.declaration_check import DeclarationCheckCallback
from equirl.agents.training.divergence import DivergenceCallback, divergence_is_named
from equirl.agents.training.evaluation import Episodes, play_episodes
from equirl.agents.training.normalised_play import as_saved, save_with_statistics
from equirl.agents.training.periodic_callback import RolloutLogCallback
from equirl.agents.training.resumed_logger import resumed_logger
from equirl.agents.transfer.zero_shot import ZeroShot, equivariant_policy
from equirl.commands.composition import given_keys
from equirl.commands.filming import write_gif
from equirl.commands.signals import Interruption
from equirl.commands.training.earlier_run import saved_config
from equirl.commands.training.interruption import InterruptionCallback
from equirl.commands.training.normalising import NormalisationState
from equirl.configs.keys import flattened
from equirl.configs.schema import TrainConfig
from equirl.envs.running.guarded import GuardedEnv
from equirl.errors import ConfigError
from equirl.runs.provenance import note_resumption
from equirl.runs.run_directory import RunDirectory
from equirl.symmetry import Symmetry
from equirl.verification.bounds import leaving

NEVER = 2**62
"""Rollouts between two entries of SB3's own in the log."""

EVALUATION_SEED = 1_000_000
FINAL_EVALUATION_SEED = 2_000_000
CONFIRMATION_SEED = 3_000_000
"""Far from the training seeds and from each other: the episodes of each purpose are fresh ones."""


class Training:
    """A run in its directory, new or resumed.

    Args:
        run: its directory.
        config: as it is to be shown.
        settings: the same, typed.
        model: new.
        make_env: makes one environment, for evaluation.
        symmetry: of the environment, where it is needed.
        checkpoints: saves and reads them.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: DictConfig,
        settings: TrainConfig,
        model: BaseAlgorithm,
        make_env: Callable[[], gym.Env[Any, Any]],
        symmetry: Symmetry | None,
        checkpoints: CheckpointCallback,
    ) -> None:
        self.directory, self.config, self.settings, self.model = run, config, settings, model
        self.make_env = lambda: GuardedEnv(make_env())
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + settings.eval.episodes)
        methods = settings.eval.zero_shot if equivariant_policy(model) is not None else []
        assert symmetry is not None or not methods
        self.evaluation = EvaluationCallback(
            self.make_env,
            run.path,
            settings.eval.every,
            seeds,
            settings.env.target_return,
            versions={
                f"zero_shot_{m}": ZeroShot(cast(Any, symmetry), cast(Any, m)) for m in methods
            },
            at_start=settings.pretrained is not None,
            confirmation_seed=CONFIRMATION_SEED,
        )
        self.equivariance = EquivarianceCallback()
        self.checkpoints = checkpoints
        self.further: list[BaseCallback] = []
        self.make_drawing: Callable[[], gym.Env[Any, Any]] | None = None
        self.declared = symmetry if settings.env.symmetry is not None else None
        self.rollouts = _rollout_log(model)
        checkpoints.callbacks = (self.evaluation, self.equivariance)
        if self.rollouts is not None:
            checkpoints.callbacks += (self.rollouts,)
        normalizer = model.get_vec_normalize_env()
        if normalizer is not None:
            checkpoints.callbacks += (NormalisationState(normalizer),)

    def add_callbacks(self, callbacks: Sequence[BaseCallback]) -> None:
        """Take callbacks of the user's own; a checkpoint keeps those that have a state.

        Args:
            callbacks: with methods ``state`` and ``restore``, as `PeriodicCallback` has them, or
                without.
        """
        self.further += callbacks
        kept = [one for one in callbacks if hasattr(one, "state") and hasattr(one, "restore")]
        self.checkpoints.callbacks = (*self.checkpoints.callbacks, *cast(Any, kept))

    def prepare(self, resumes: bool) -> None:
        """Bring the model to where the training is to begin, and open the TensorBoard files."""
        checkpoint = self.checkpoints.read(self.model, warn) if resumes else None
        if checkpoint is not None:
            self._go_on(checkpoint)
            return
        if resumes:
            self._start_over()
        self.model.set_logger(configure(str(self.directory.tensorboard), ["tensorboard"]))
        _write_config_tab(self.model, self.config)

    def _warn_of_symmetry(self, message: str) -> None:
        relaxes = self.settings.method.name == "relaxed"
        warn(f"{message}; method=relaxed lets go of it there" if relaxes else message)

    def run(self, interruption: Interruption) -> float:
        """Train to the end; returns the best model's mean return over fresh episodes."""
        saves = self.settings.checkpoint_every > 0
        callbacks: list[BaseCallback] = [
            DivergenceCallback(),
            self.equivariance,
            self.evaluation,
            *self.further,
            *([self.checkpoints] if saves else []),
            InterruptionCallback(interruption, self.checkpoints if saves else None),
        ]
        if self.declared is not None and self.settings.check != "off":
            for name in (self.declared.group.names[g] for g in self.declared.group.generators):
                if out := leaving(self.declared, name):
                    warn(f"{name} takes {out} out of the observation space")
            warn(
                f"env.symmetry={self.settings.env.symmetry} was never checked (equirl check does): "
                "it is tested on the first steps; check=off silences this"
            )
            callbacks.insert(0, DeclarationCheckCallback(self.declared, self._warn_of_symmetry))
        if self.rollouts is not None:
            callbacks.insert(0, self.rollouts)
        self._learn(callbacks)
        interruption.at_once = True
        model, evaluation = self.model, self.evaluation
        if not evaluation.history or evaluation.history[-1].step != model.num_timesteps:
            evaluation.evaluate()
        if saves and self.checkpoints.between_rounds:
            self.checkpoints.save()  # so that it can be trained longer
        interruption.raise_if_noted()
        seconds = self.checkpoints.seconds
        save_with_statistics(model, self.directory.final_model)

        # SB3 would warn of any other n_steps in whatever off-policy agent it loads.
        off_policy = hasattr(model, "replay_buffer")
        smallest: dict[str, Any] = {"buffer_size": 1, "n_steps": 1} if off_policy else {}
        best = type(model).load(self.directory.best_model, device=self.settings.device, **smallest)
        player = as_saved(best, self.directory.best_model)
        episodes = self.settings.eval.final_episodes
        fresh = range(FINAL_EVALUATION_SEED, FINAL_EVALUATION_SEED + episodes)
        final = play_episodes(player, self.make_env, fresh)
        if self.make_drawing is not None:
            film = self.directory.best_film
            write_gif(player, self.make_drawing, FINAL_EVALUATION_SEED, film)
            print(f"film:       {film}")
        _finish(self.directory, self.config, model, final, seconds)
        return final.mean

    def _learn(self, callbacks: list[BaseCallback]) -> None:
        bar = ProgressBarCallback() if self.settings.progress else None
        logs: dict[str, Any] = {} if self.rollouts is None else {"log_interval": NEVER}
        try:
            with divergence_is_named(self.model):
                self.model.learn(
                    max(0, self.settings.total_timesteps - self.model.num_timesteps),
                    callback=[*callbacks, *([bar] if bar is not None else [])],
                    # After a checkpoint, also one of step 0, environments are not begun again.
                    reset_num_timesteps=self.model.num_timesteps == 0
                    and self.model._last_obs is None,
                    **logs,
                )
        finally:
            if bar is not None and hasattr(bar, "pbar"):
                bar.on_training_end()  # gives the terminal back, however the training ended

    def _go_on(self, checkpoint: Checkpoint) -> None:
        total = self.settings.total_timesteps
        # Without being asked for less: a training ends with its last round, a little beyond.
        if checkpoint.step > total and "total_timesteps" in given_keys():
            raise ConfigError(
                f"total_timesteps must be at least {checkpoint.step}, as many steps as were "
                f"trained already, got {total}"
            )
        if (
            "total_timesteps" in given_keys()
            and getattr(self.settings.algorithm, "learning_rate_final", None) is not None
        ):
            warn("the learning rate, which falls to its end at total_timesteps, falls anew")
        planned = saved_config(self.directory.path).total_timesteps
        note_resumption(self.directory, checkpoint.step, planned)
        self.directory.write_config(OmegaConf.to_yaml(self.config, resolve=True))
        self.directory.result.unlink(missing_ok=True)
        self.model.set_logger(resumed_logger(self.directory.tensorboard, checkpoint.step))
        restarted = self.checkpoints.go_on(self.model, checkpoint, self.settings.seed)
        print(f"resuming {self.directory} from step {checkpoint.step}")
        if restarted:
            warn(
                f"the running episode of {len(restarted)} of {self.model.n_envs} environments "
                "cannot be continued: a new one begins there"
            )

    def _start_over(self) -> None:
        if self.directory.read_result() is not None:
            raise ConfigError(
                f"{self.directory} is finished and has no checkpoint to go on from: "
                f"equirl train repeat={self.directory} begins it anew"
            )
        print(f"no checkpoint in {self.directory} yet: starting over")
        self.directory.clear()
        note_resumption(self.directory, 0, self.settings.total_timesteps)
        self.directory.write_config(OmegaConf.to_yaml(self.config, resolve=True))


def warn(line: str) -> None:
    """Print a warning of one line."""
    print(f"equirl train: warning: {line}", file=sys.stderr)


def _rollout_log(model: BaseAlgorithm) -> RolloutLogCallback | None:
    """What logs rollouts, as often as SB3 does of itself: A2C's are short."""
    if not isinstance(model, OnPolicyAlgorithm):
        return None
    return RolloutLogCallback(100 if isinstance(model, A2C) else 1)


def learned_parameters(model: BaseAlgorithm) -> int:
    """Trainable parameters of the networks, each once, the target networks left out."""
    targets = {
        id(parameter)
        for name, part in model.policy.named_children()
        if name.endswith("_target")
        for parameter in part.parameters()
    }
    return sum(
        parameter.numel()
        for parameter in model.policy.parameters()
        if parameter.requires_grad and id(parameter) not in targets
    )


def _write_config_tab(model: BaseAlgorithm, config: DictConfig) -> None:
    for output in model.logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            text = OmegaConf.to_yaml(config, resolve=True)
            output.writer.add_text("config", "    " + text.replace("\n", "\n    "))


def _finish(
    run: RunDirectory, config: DictConfig, model: BaseAlgorithm, final: Episodes, seconds: float
) -> None:
    """Write and print the result."""
    flat: dict[str, bool | str | float | int | None] = {
        key: value if isinstance(value, int | float | str) else str(value)
        for key, value in flattened(OmegaConf.to_container(config, resolve=True)).items()
    }
    metrics: dict[str, float | int] = {"final/mean_return": final.mean}
    model.logger.record("final/mean_return", final.mean)
    model.logger.record("hparams", HParam(flat, metrics))
    model.logger.dump(model.num_timesteps)
    model.logger.close()
    result = {
        "env": config.env.id,
        "algorithm": config.algorithm.name,
        "method": config.method.name,
        "seed": config.seed,
        "best_mean_return": round(final.mean, 4),
        "half_width_95": round(final.half_width, 4),
        "episodes": len(final.returns),
        "steps": model.num_timesteps,
        "parameters": learned_parameters(model),
        "seconds": round(seconds, 1),
    }
    run.write_result(result)
    print(f"best model: mean return {final}, none of them seen in training")
    print(f"            {run.best_model}, {model.num_timesteps} steps, {seconds:.0f} s")
    print(f"curves:     tensorboard --logdir {run}")
