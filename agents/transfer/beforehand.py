"""What can be told of a plain agent before any equivariant version of it has played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.families import FAMILIES
from equirl.agents.saving.from_pretrained import pretrained
from equirl.agents.saving.saved_agent import SavedAgent
from equirl.agents.transfer.branch_table import Transitions, acting_network, play_transitions
from equirl.agents.transfer.disagreement import Disagreement, disagreement
from equirl.agents.transfer.familiar import learn_familiarity
from equirl.agents.transfer.weight_learning import seeded

OWN_STEPS = 1000
"""Environment steps that the agent plays as it is, for what is measured on its own states."""


def own_seed(seed: int, episodes: int) -> int:
    """The first seed of the agent's own play: before those of an evaluation, or else behind them.

    Args:
        seed: of the first episode of the evaluation.
        episodes: how many it has.
    """
    return seed - OWN_STEPS if seed >= OWN_STEPS else seed + episodes


@dataclass(frozen=True)
class Beforehand:
    """A plain agent, its own play, and what was made of both.

    Args:
        plain: the agent as it is.
        looking: the agent with ``method="lambda"``, which looks at everything there is.
        familiar: the agent with `canonical` by a score learned from its own states.
        own: what it played.
        disagreement: None where the group is trivial.
    """

    plain: BaseAlgorithm
    looking: BaseAlgorithm
    familiar: BaseAlgorithm
    own: Transitions
    disagreement: Disagreement | None


def frozen(agent: SavedAgent, env: gym.Env[Any, Any], method: Any, **kwargs: Any) -> BaseAlgorithm:
    """A plain agent made equivariant, or None: as it is; not for training."""
    is_on_policy = FAMILIES[agent.architecture.algorithm].is_on_policy
    buffer = {} if is_on_policy else {"buffer_size": 1, "replay_buffer_class": None}
    return pretrained(agent, env, method, **buffer, **kwargs)


def look_beforehand(
    agent: SavedAgent,
    make_env: Callable[[], gym.Env[Any, Any]],
    first_seed: int,
    learning_seed: int = 0,
    **kwargs: Any,
) -> Beforehand:
    """Let an agent play `OWN_STEPS`, and look at what it did.

    Args:
        agent: a plain one.
        make_env: makes its environment.
        first_seed: of the episodes; the following ones count on.
        learning_seed: of what is learned.
        kwargs: of the models, such as ``device`` and ``seed``.
    """
    plain, looking, familiar = (
        frozen(agent, make_env(), method, **options, **kwargs)
        for method, options in (
            (None, {}),
            ("lambda", {}),
            ("canonical", {"canonical_score": "learned"}),
        )
    )
    own = play_transitions([plain], make_env, OWN_STEPS, 0.0, first_seed)
    measured = None
    if acting_network(looking).symmetrized.order > 1:
        with seeded(learning_seed):
            one_sided = learn_familiarity(familiar, own.observations)
        measured = disagreement(looking, own.observations, one_sided)
    return Beforehand(plain, looking, familiar, own, measured)
