"""A trained plain agent made equivariant in every way there is, and the best of them found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from tqdm import tqdm

from equirl.agents.saving.from_pretrained import in_memory, pretrained, statistics_of
from equirl.agents.saving.normalised import with_normalisation
from equirl.agents.saving.reading.library_classes import library_class
from equirl.agents.saving.saved_agent import SavedAgent, read_agent
from equirl.agents.training.evaluation import Episodes, play_episodes
from equirl.agents.transfer.alpha_learning import learn_alpha
from equirl.agents.transfer.beforehand import frozen, look_beforehand, own_seed
from equirl.agents.transfer.branch_table import view_orbits, weighting_of
from equirl.agents.transfer.disagreement import Disagreement
from equirl.agents.transfer.fine_tuning import Curve, fine_tune, gentle, training_env
from equirl.agents.transfer.paired_test import is_better
from equirl.agents.transfer.weight_learning import (
    LearnedWeights,
    learn_weights,
    seeds_of,
    set_weighting,
    with_beta,
)
from equirl.errors import AgentError
from equirl.shown import reason
from equirl.symmetrize import METHODS, score_spread

Stage = Literal["zero_shot", "weights", "relaxed", "finetune", "all"]
MakeEnv = Callable[[], gym.Env[Any, Any]]

PLAIN = "plain"
LEARNED = "learned λ"
RELAXED = "learned α"
FAMILIAR = "familiar"
"""`canonical` by a score that was learned from the agent's own states (`learn_familiarity`)."""

VERSIONS = (*(method for method in METHODS if method != "relaxed"), FAMILIAR)
"""What ``methods`` may name; `relaxed` is its inner method until it is trained."""


@dataclass
class Transferred:
    """The versions of an agent, what they got, and which is best.

    Args:
        models: every version, by name; ``"plain"`` is the original.
        played: the evaluation episodes of each, of the same seeds.
        chosen: see `choose`.
        learned: how λ was learned, where it was.
        alpha: the mean of α over the states that it was learned from, where it was.
        curves: of those that were trained further.
        disagreement: measured before anything else was played, on the original's own states.
    """

    models: dict[str, BaseAlgorithm] = field(default_factory=dict)
    played: dict[str, Episodes] = field(default_factory=dict)
    chosen: str = PLAIN
    learned: LearnedWeights | None = None
    alpha: float | None = None
    curves: dict[str, Curve] = field(default_factory=dict)
    disagreement: Disagreement | None = None

    @property
    def model(self) -> BaseAlgorithm:
        """The chosen version."""
        return self.models[self.chosen]

    def __str__(self) -> str:
        lines = [f"{name}: {episodes}" for name, episodes in self.played.items()]
        return "\n".join([*lines, f"chosen: {self.chosen}"])


def _maker(env: str | MakeEnv | VecEnv) -> MakeEnv:
    """What makes the environments to play: every version has one of its own."""
    if isinstance(env, str):
        return lambda: gym.make(env)
    if not isinstance(env, VecEnv):
        return env
    if type(env) is not DummyVecEnv:
        raise AgentError(
            f"env must be an id, a function that makes one environment, or a DummyVecEnv, not "
            f"normalised or stacked, got {type(env).__name__}"
        )
    first = env.envs[0]
    try:
        copy.deepcopy(first)
    except Exception as error:  # a class of the user's own
        raise AgentError(
            f"the environment cannot be copied ({reason(error)}): give a function that makes one"
        ) from error
    return lambda: copy.deepcopy(first)


def transfer_agent(
    agent: str | Path | SavedAgent | BaseAlgorithm,
    env: str | MakeEnv | VecEnv,
    *,
    normalize: str | Path | bool | None = None,
    stage: Stage = "weights",
    methods: Sequence[str] = ("equitune", "equizero", "canonical", FAMILIAR),
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
    ``weights``      ``methods``, and λ learned with the networks frozen (`learn_weights`)
    ``relaxed``      these, and α over the learned λ (`learn_alpha`), of DQN agents: for a task
                     whose symmetry is broken in places
    ``finetune``     the original and ``finetune_method`` trained further, everything trainable,
                     to the best point of the curve of each
    ``all``          all of these
    ===============  ==========================================================================

    Args:
        agent: a saved plain agent of any algorithm of SB3, and any version of it; or a model, whose
            `VecNormalize` is found on it.
        env: the id of its environment, or a function that makes it; or a `DummyVecEnv`, of whose
            first environment copies are played.
        normalize: the statistics of the `VecNormalize` it was trained behind, see
            `from_pretrained`.
        stage: see above.
        methods: zero-shot methods to compare; ``"familiar"`` is `canonical` whose canonical point
            is the one of each orbit that looks most like the agent's own states.
        betas: of the one-parameter family.
        episodes: evaluation episodes of each version.
        seed: of the first of them; no other play uses these.
        weight_steps: environment steps to learn λ with.
        finetune_method: the equivariant one to train further.
        finetune_steps: environment steps of each.
        finetune_every: environment steps between two points of its curve; the best is kept.
        finetune_episodes: of each point.
        finetune_kwargs: hyper-parameters of the algorithm to train with; they count before the
            agent's own. None: `gentle` ones.
        learning_seed: of the play and the training that something is learned from.
        device: where the networks go.
        progress: show bars.

    Raises:
        AgentError: the agent cannot be read, does not fit, has networks of classes of your own, or
            is equivariant already; or the environment cannot be copied.
        SymmetryError: the environment's symmetry is not known.
        ValueError: an unknown stage or method, or fewer than two episodes.
    """
    if stage not in get_args(Stage):
        raise ValueError(f"stage must be one of {', '.join(get_args(Stage))}, got {stage!r}")
    for method in methods:
        if method not in VERSIONS:
            raise ValueError(f"methods must be of {', '.join(VERSIONS)}, got {method!r}")
    if episodes < 2:
        raise ValueError(f"episodes must be at least 2, got {episodes}")
    if isinstance(agent, BaseAlgorithm):
        saved, classes = in_memory(agent)
        own = [
            n for n, c in classes.items() if isinstance(c, type) and library_class(n, str(c)) != c
        ]
        if own:
            raise AgentError(
                f"{saved.path} has classes of its own, {', '.join(own)}: such agents are made "
                "equivariant by from_pretrained"
            )
        normalize = statistics_of(agent, normalize)
    else:
        saved = agent if isinstance(agent, SavedAgent) else read_agent(agent)
    if saved.is_equivariant:
        raise AgentError(f"{saved.path} is equivariant already: give a plain SB3 agent")
    if saved.normalisation is None:
        saved = with_normalisation(saved, normalize)
    learns_from = seeds_of(learning_seed)
    are_shared = max(seed, learns_from.start) < min(seed + episodes, learns_from.stop)
    if are_shared and stage in ("weights", "relaxed", "all"):
        raise AgentError(
            f"seed={seed}: λ is learned from episodes of the seeds {learns_from.start} to "
            f"{learns_from.stop - 1}, by learning_seed={learning_seed}: evaluate on others"
        )
    make_env = _maker(env)
    if stage in ("finetune", "all"):
        training_env(saved, make_env).close()  # or refused, before anything is played

    relaxes = saved.architecture.algorithm == "dqn"
    if stage == "relaxed" and not relaxes:
        raise AgentError(
            f"stage=relaxed is for DQN agents, whose Q-values have targets to learn from, got "
            f"{saved.architecture.algorithm}: say stage=weights"
        )
    kwargs = {"device": device, "seed": learning_seed}
    before = look_beforehand(saved, make_env, own_seed(seed, episodes), learning_seed, **kwargs)
    result = Transferred({PLAIN: before.plain}, disagreement=before.disagreement)
    for method in methods if stage != "finetune" else ():
        is_learned = method == FAMILIAR
        result.models[method] = (
            before.familiar if is_learned else frozen(saved, make_env(), method, **kwargs)
        )
    if stage in ("zero_shot", "all"):
        spread = float(score_spread(view_orbits(before.looking, before.own.observations).scores))
        for beta in betas:
            model = frozen(saved, make_env(), "lambda", **kwargs)
            set_weighting(model, with_beta(weighting_of(model), float(beta), spread))
            result.models[f"beta={beta:g}"] = model
    if stage in ("weights", "relaxed", "all"):
        with _bar(weight_steps, "learning λ", "step", progress) as update:
            result.learned = learn_weights(
                before.looking,
                result.models[PLAIN],
                make_env,
                steps=weight_steps,
                seed=learning_seed,
                reward_scale=_reward_scale(saved),
                on_step=update,
            )
        result.models[LEARNED] = before.looking
        if relaxes and stage != "weights":
            model = frozen(saved, make_env(), "relaxed", inner="lambda", per_action=False, **kwargs)
            result.alpha = learn_alpha(
                model,
                result.learned.played,
                weighting_of(before.looking).state_dict(),
                seed=learning_seed,
                reward_scale=_reward_scale(saved),
            )
            result.models[RELAXED] = model
    if stage in ("finetune", "all"):
        tuned = finetune_kwargs
        if tuned is None:
            is_dict = saved.observation_space.is_dict
            tuned = gentle(saved.architecture.algorithm, is_dict=is_dict)
        for name, kind in ((PLAIN, None), (finetune_method, finetune_method)):
            model = pretrained(saved, training_env(saved, make_env), kind, **{**kwargs, **tuned})
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


def _reward_scale(agent: SavedAgent) -> float:
    """By how much the rewards were smaller that the agent's critic was trained on."""
    saved = agent.normalisation
    if saved is None or not saved.settings["norm_reward"]:
        return 1.0
    return float(1 / np.sqrt(saved.returns.var + saved.epsilon))


@contextmanager
def _bar(total: int, name: str, unit: str, progress: bool) -> Iterator[Callable[[], None]]:
    with tqdm(total=total, desc=name, unit=unit, leave=False, disable=not progress) as bar:
        yield bar.update
