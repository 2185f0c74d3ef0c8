"""Training a loaded agent further, with an eye on how its return goes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from equirl.agents.families import FAMILIES
from equirl.agents.saving.saved_agent import SavedAgent
from equirl.agents.training.evaluation import Episodes, play_episodes
from equirl.agents.training.periodic_callback import PeriodicCallback
from equirl.errors import AgentError

VALUE_BASED = ("dqn", "qrdqn")

LEARNING_RATE = 1e-4
"""From which the learning rate of a value-based agent falls to 0."""

LEARNING_STARTS = 1000
"""Environment steps played before the first gradient step: the replay buffer begins empty. With
random actions of a value-based agent; of an actor, half with random ones and half with its own."""

EXPLORATION = 0.1
"""Standard deviation, in units of half the box, of the noise on the actions of a deterministic
actor that was trained without; as in arXiv 1802.09477."""


def gentle(
    algorithm: str = "dqn",
    learning_rate: float | Literal["auto"] | None = "auto",
    n_steps: int | None = 5,
    exploration_initial_eps: float | None = 0.3,
    *,
    is_dict: bool = False,
) -> dict[str, Any]:
    """Hyper-parameters that do not lose at once what an agent can do already.

    A value-based agent does at the learning rate it was trained with (LunarLander: from 171 to -336
    in 1,000 steps). An actor keeps its own: SAC on Pendulum loses at a tenth of it.

    Args:
        algorithm: as `FAMILIES` names it; what it does not have is left out.
        learning_rate: falls to 0 while it learns. ``"auto"`` is `LEARNING_RATE` of a value-based
            agent, and None of an actor.
        n_steps: of the returns that a value-based agent learns from.
        exploration_initial_eps: of its exploration at the beginning.
        is_dict: whether its observations are dicts, of which SB3 keeps no returns of several steps.

    Returns:
        Arguments of the algorithm's class; what is None is left to the agent.
    """
    given: dict[str, Any] = {}
    if algorithm in VALUE_BASED:
        n_steps = None if is_dict else n_steps
        given = {"n_steps": n_steps, "exploration_initial_eps": exploration_initial_eps}
    if learning_rate == "auto":
        learning_rate = LEARNING_RATE if algorithm in VALUE_BASED else None
    if learning_rate is not None:
        given["learning_rate"] = LinearSchedule(learning_rate, 0.0, 1.0)
    return {name: value for name, value in given.items() if value is not None}


def training_env(agent: SavedAgent, make_env: Callable[[], gym.Env[Any, Any]]) -> VecEnv:
    """What an agent is trained on in: as many environments as it had, if it learns on-policy.

    Where its rewards were normalised they go on being so, from the spread they had then. Its
    observations are normalised in the network.

    Raises:
        AgentError: an agent that explores by gSDE, whose noise is not symmetric.
    """
    if agent.architecture.use_sde:
        raise AgentError(
            f"{agent.path} explores by gSDE, whose noise breaks the symmetry: it can be made "
            "equivariant for acting, stage=zero_shot or weights, and is not trained on"
        )
    is_on_policy = FAMILIES[agent.architecture.algorithm].is_on_policy
    count = agent.data.get("n_envs", 1) if is_on_policy else 1
    envs: VecEnv = DummyVecEnv([make_env] * count)
    saved = agent.normalisation
    if saved is None or not saved.settings["norm_reward"]:
        return envs
    settings: dict[str, Any] = {n: saved.settings[n] for n in ("clip_reward", "gamma", "epsilon")}
    behind = VecNormalize(envs, norm_obs=False, **settings)
    behind.ret_rms.mean, behind.ret_rms.var = saved.returns.mean, saved.returns.var
    behind.ret_rms.count = saved.returns.count
    return behind


@dataclass(frozen=True)
class Curve:
    """How the return of one agent went.

    Args:
        steps: environment steps trained, the first being 0.
        episodes: played greedily after each, the same seeds every time.
    """

    steps: list[int]
    episodes: list[Episodes]

    @property
    def best(self) -> int:
        """Which point has the highest mean return; the first of equal ones."""
        return int(np.argmax([played.mean for played in self.episodes]))

    def steps_to(self, target: float) -> int | None:
        """Environment steps until a mean return of ``target`` was first seen; None: never."""
        pairs = zip(self.steps, self.episodes, strict=True)
        return next((steps for steps, played in pairs if played.mean >= target), None)


class _CurveCallback(PeriodicCallback):
    def __init__(
        self,
        every: int,
        make_env: Callable[[], gym.Env[Any, Any]],
        seeds: range,
        on_step: Callable[[], None],
    ) -> None:
        super().__init__(every)
        self.make_env, self.seeds, self.note_step = make_env, seeds, on_step
        self.curve = Curve([], [])
        self.best: _Learned | None = None

    def _on_training_start(self) -> None:
        if not self.curve.steps:
            self.note_point()  # where it starts from

    def _on_step(self) -> bool:
        self.note_step()
        return super()._on_step()

    def _on_time(self) -> bool:
        self.note_point()
        return True

    def note_point(self) -> None:
        """Evaluate now."""
        self.curve.steps.append(self.model.num_timesteps)
        self.curve.episodes.append(play_episodes(self.model, self.make_env, self.seeds))
        if self.curve.best == len(self.curve.steps) - 1:
            self.best = _Learned.of(self.model)


@dataclass(frozen=True)
class _Learned:
    """A copy of all that a gradient step changes: networks, optimisers, temperature."""

    parameters: dict[str, Any]
    variables: dict[str, torch.Tensor]

    @classmethod
    def of(cls, model: BaseAlgorithm) -> _Learned:
        names = model._get_torch_save_params()[1]
        variables = {name: attrgetter(name)(model).detach().clone() for name in names}
        return cls(copy.deepcopy(model.get_parameters()), variables)

    def give(self, model: BaseAlgorithm) -> None:
        model.set_parameters(self.parameters, device=model.device)
        for name, value in self.variables.items():
            attrgetter(name)(model).data.copy_(value)


def fine_tune(
    model: BaseAlgorithm,
    make_env: Callable[[], gym.Env[Any, Any]],
    steps: int,
    every: int,
    seeds: range,
    on_step: Callable[[], None] = lambda: None,
) -> Curve:
    """Train everything of the agent, and go back to the best point of its curve.

    The replay buffer begins empty. A value-based agent fills it with random actions: with few of
    them the buffer would hold nothing but what the agent does already, and what is learned from
    that leads far away (LunarLander: from -40 to -500; SAC Pendulum: from -700 to -1300). An actor
    plays the first half with random actions, too, and the second by its own distribution, or by the
    noise that it was trained with (or `EXPLORATION`).

    Args:
        model: as `SavedAgent.build` makes it; is trained. At the end its networks, optimisers and
            temperature are those of ``Curve.best``.
        make_env: makes one environment, for evaluation.
        steps: environment steps.
        every: environment steps between two evaluations.
        seeds: of the evaluation episodes.
        on_step: called after each environment step.
    """
    callback = _CurveCallback(every, make_env, seeds, on_step)
    if isinstance(model, OffPolicyAlgorithm):
        model.learning_starts = min(LEARNING_STARTS, steps // 2)
    if isinstance(model, OffPolicyAlgorithm) and isinstance(model.action_space, spaces.Box):
        _fill_buffer(model, callback)
        model.learn(steps - model.num_timesteps, callback, reset_num_timesteps=False)
    else:
        model.learn(steps, callback)
    if callback.curve.steps[-1] != model.num_timesteps:
        callback.note_point()
    assert callback.best is not None  # from the first point on
    callback.best.give(model)
    return callback.curve


def _fill_buffer(model: OffPolicyAlgorithm, callback: PeriodicCallback) -> None:
    """Let an actor play its first ``learning_starts`` steps without updates.

    Half of them with random actions: what it does already is too narrow to learn Q from.

    Args:
        model: is to learn on after it.
        callback: of both; counts on in the second.
    """
    if isinstance(model, TD3) and model.action_noise is None:
        shape: Any = model.action_space.shape
        model.action_noise = NormalActionNoise(np.zeros(shape), np.full(shape, EXPLORATION))
    steps, gradient_steps = model.learning_starts, model.gradient_steps
    model.learning_starts, model.gradient_steps = steps // 2, 0
    model.learn(steps, callback)
    model.gradient_steps = gradient_steps
    callback.restore(callback.state())
