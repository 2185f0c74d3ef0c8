"""A trained plain agent made equivariant in every way there is, and the best of them found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym
from stable_baselines3 import DQN
from tqdm import tqdm

from equirl.agents.dqn import EquivariantDQN
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.agents.training.evaluation import Episodes, play_episodes
from equirl.agents.transfer.branch_table import branch_table, play_transitions, weighting_of
from equirl.agents.transfer.fine_tuning import Curve, fine_tune, gentle
from equirl.agents.transfer.paired_test import is_better
from equirl.agents.transfer.weight_learning import (
    LearnedWeights,
    learn_weights,
    set_weighting,
    with_beta,
)
from equirl.errors import AgentError
from equirl.symmetrize import Method, score_spread

Stage = Literal["zero_shot", "weights", "finetune", "all"]
MakeEnv = Callable[[], gym.Env[Any, Any]]

PLAIN = "plain"
LEARNED = "learned λ"
SPREAD_STEPS = 500
"""Environment steps that the agent plays for the typical spread of its scores to be measured."""


@dataclass
class Transferred:
    """The versions of an agent, what they got, and which is best.

    Args:
        models: every version, by name; ``"plain"`` is the original.
        played: the evaluation episodes of each, of the same seeds.
        chosen: see `choose`.
        learned: how λ was learned, where it was.
        curves: of those that were trained further.
    """

    models: dict[str, DQN] = field(default_factory=dict)
    played: dict[str, Episodes] = field(default_factory=dict)
    chosen: str = PLAIN
    learned: LearnedWeights | None = None
    curves: dict[str, Curve] = field(default_factory=dict)

    @property
    def model(self) -> DQN:
        """The chosen version."""
        return self.models[self.chosen]

    def __str__(self) -> str:
        lines = [f"{name}: {episodes}" for name, episodes in self.played.items()]
        return "\n".join([*lines, f"chosen: {self.chosen}"])


def transfer_agent(
    agent: str | Path | SavedAgent,
    env: str | MakeEnv,
    *,
    stage: Stage = "weights",
    methods: Sequence[str] = ("equitune", "equizero", "canonical"),
    betas: Sequence[float] = (-3, -1, 0.3, 1, 3),
    episodes: int = 200,
    seed: int = 1_000_000,
    weight_steps: int = 10_000,
    finetune_method: str = "equitune",
    finetune_steps: int = 50_000,
    finetune_every: int = 2500,
    finetune_episodes: int = 20,
    finetune_kwargs: Mapping[str, Any] | None = None,
    learning_seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Transferred:
    """Make a plain agent equivariant (arXiv 2305.09900) and compare the versions by paired play.

    ===============  ==========================================================================
    stage            versions beside the original
    ===============  ==========================================================================
    ``zero_shot``    nothing trained: ``methods``, and λ = exp(β · score / σ) for each β
    ``weights``      ``methods``, and λ learned with the Q-network frozen (`learn_weights`)
    ``finetune``     the original and ``finetune_method`` trained further, everything trainable
    ``all``          all of these
    ===============  ==========================================================================

    Args:
        agent: a saved plain DQN agent of any SB3 version.
        env: the id of its environment, or a function that makes it.
        stage: see above.
        methods: zero-shot methods to compare.
        betas: of the one-parameter family.
        episodes: evaluation episodes of each version.
        seed: of the first of them; no other play uses these.
        weight_steps: environment steps to learn λ with.
        finetune_method: the equivariant one to train further.
        finetune_steps: environment steps of each.
        finetune_every: environment steps between two points of its curve.
        finetune_episodes: of each point.
        finetune_kwargs: hyper-parameters of `DQN` to train with; they count before the agent's own.
            None: `gentle` ones.
        learning_seed: of the play and the training that something is learned from.
        device: where the networks go.
        progress: show bars.

    Raises:
        AgentError: the agent cannot be read, does not fit, or is equivariant already.
        SymmetryError: the environment's symmetry is not known.
        ValueError: an unknown stage, or fewer than two episodes.
    """
    if stage not in get_args(Stage):
        raise ValueError(f"stage must be one of {', '.join(get_args(Stage))}, got {stage!r}")
    if episodes < 2:
        raise ValueError(f"episodes must be at least 2, got {episodes}")
    saved = agent if isinstance(agent, SavedAgent) else read_agent(agent)
    if saved.is_equivariant:
        raise AgentError(f"{saved.path} is equivariant already: give a plain SB3 agent")
    make_env: MakeEnv = env if callable(env) else lambda: gym.make(env)

    def build(method: str | Method | None, **kwargs: Any) -> DQN:
        kwargs = {"device": device, "seed": learning_seed, **kwargs}
        if method is None:
            return saved.build(DQN, make_env(), **kwargs)
        return saved.build(EquivariantDQN, make_env(), method=method, **kwargs)

    result = Transferred({PLAIN: build(None, buffer_size=1)})
    for method in methods if stage != "finetune" else ():
        result.models[method] = build(method, buffer_size=1)
    if stage in ("zero_shot", "all"):
        result.models.update(_beta_family(build, make_env, result.models[PLAIN], betas, seed))
    if stage in ("weights", "all"):
        model = build("lambda", buffer_size=1)
        with _bar(weight_steps, "learning λ", "step", progress) as update:
            result.learned = learn_weights(
                model,
                result.models[PLAIN],
                make_env,
                steps=weight_steps,
                seed=learning_seed,
                on_step=update,
            )
        result.models[LEARNED] = model
    if stage in ("finetune", "all"):
        hyper_parameters = gentle() if finetune_kwargs is None else finetune_kwargs
        for name, kind in ((PLAIN, None), (finetune_method, finetune_method)):
            model = build(kind, **hyper_parameters)
            with _bar(finetune_steps, f"training {name}", "step", progress) as update:
                curve = fine_tune(
                    model,
                    make_env,
                    finetune_steps,
                    finetune_every,
                    range(seed - finetune_episodes, seed),
                    update,
                )
            result.models[f"{name}, trained"] = model
            result.curves[name] = curve
    for name, model in result.models.items():
        with _bar(episodes, name, "episode", progress) as update:
            result.played[name] = play_episodes(
                model, make_env, range(seed, seed + episodes), update
            )
    result.chosen = choose(result.played)
    return result


def choose(played: dict[str, Episodes], level: float = 0.05) -> str:
    """The version with the best mean among those that are better than plain beyond doubt.

    Episodes are paired by seed, so it is the differences that a one-sided t-test looks at. The
    level is shared between the versions (Bonferroni): the probability of leaving an original that
    nothing improves on is at most ``level``, however many versions are compared. Plain where there
    is none.
    """
    others = [name for name in played if name != PLAIN]
    better = [
        name
        for name in others
        if is_better(played[name].returns, played[PLAIN].returns, level / len(others))
    ]
    return max(better, key=lambda name: played[name].mean, default=PLAIN)


def _beta_family(
    build: Callable[..., DQN], make_env: MakeEnv, plain: DQN, betas: Sequence[float], seed: int
) -> Iterator[tuple[str, DQN]]:
    """λ = exp(β · score / σ), σ measured on the agent's own states."""
    spread = None
    for beta in betas:
        model = build("lambda", buffer_size=1)
        if spread is None:
            played = play_transitions([plain], make_env, SPREAD_STEPS, 0.0, seed - SPREAD_STEPS)
            spread = float(score_spread(branch_table(model, played).now.scores))
        set_weighting(model, with_beta(weighting_of(model), float(beta), spread))
        yield f"beta={beta:g}", model


@contextmanager
def _bar(total: int, name: str, unit: str, progress: bool) -> Iterator[Callable[[], None]]:
    with tqdm(total=total, desc=name, unit=unit, leave=False, disable=not progress) as bar:
        yield bar.update
