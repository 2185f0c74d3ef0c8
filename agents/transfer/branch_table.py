"""Transitions played with a frozen agent, and what its Q-network says along their orbits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN
from torch import Tensor

from equirl.agents.dqn import EquivariantQNetwork
from equirl.agents.training.evaluation import stacked
from equirl.errors import AgentError
from equirl.symmetrize import LambdaWeighting, magnitude

LARGEST_TABLE = 50_000_000
"""The most numbers in the features of a table: 200 MB. Longer data are sampled."""

STATES_AT_ONCE = 256
"""The most whose orbits the network is given at once."""


@dataclass(frozen=True)
class Transitions:
    """What was played: lists of equal length, one entry for each environment step.

    Args:
        observations: s, as the environment gives them.
        actions: a.
        rewards: r.
        next_observations: s′.
        terminated: whether s′ is terminal (a time limit is not).
    """

    observations: list[Any]
    actions: list[int]
    rewards: list[float]
    next_observations: list[Any]
    terminated: list[bool]

    def __len__(self) -> int:
        return len(self.actions)

    def __add__(self, other: Transitions) -> Transitions:
        return Transitions(
            self.observations + other.observations,
            self.actions + other.actions,
            self.rewards + other.rewards,
            self.next_observations + other.next_observations,
            self.terminated + other.terminated,
        )


def play_transitions(
    models: Sequence[DQN],
    make_env: Callable[[], gym.Env[Any, Any]],
    steps: int,
    epsilon: float,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Transitions:
    """Play exactly ``steps`` environment steps, each episode with the next of the models.

    Args:
        models: who acts, greedily except with probability ``epsilon``.
        make_env: makes the environment.
        steps: environment steps.
        epsilon: probability of a random action.
        seed: of the first episode (the following ones count on) and of the random actions.
        on_step: called after each step.
    """
    played = Transitions([], [], [], [], [])
    episodes = 0
    random = np.random.default_rng(seed)
    with make_env() as env:
        assert isinstance(env.action_space, gym.spaces.Discrete)
        actions = int(env.action_space.n)
        while len(played) < steps:
            model = models[episodes % len(models)]
            observation, _ = env.reset(seed=seed + episodes)
            over = False
            while not over and len(played) < steps:
                action = int(model.predict(observation, deterministic=True)[0])
                if random.random() < epsilon:
                    action = int(random.integers(actions))
                following, reward, terminated, truncated, _ = env.step(action)
                played.observations.append(observation)
                played.actions.append(action)
                played.rewards.append(float(reward))
                played.next_observations.append(following)
                played.terminated.append(bool(terminated))
                observation, over = following, terminated or truncated
                on_step()
            episodes += 1
    return played


@dataclass(frozen=True)
class Branches:
    """The frozen Q-network along the orbits of N states.

    Args:
        values: g⁻¹Q(gs), ``[|G|, N, actions]``.
        features: φ(gs), ``[|G|, N, features]``.
    """

    values: Tensor
    features: Tensor

    def of(self, rows: Tensor) -> Branches:
        """Those of some of the states, by number."""
        return Branches(self.values[:, rows], self.features[:, rows])

    @property
    def scores(self) -> Tensor:
        """max_a Q(gs, a), which pulling back does not change, ``[|G|, N]``."""
        return self.values.amax(dim=2)

    def q_values(self, weighting: LambdaWeighting) -> Tensor:
        """Q_G(s, ·) = Σ_g w_g(s) g⁻¹Q(gs), ``[N, actions]``."""
        weights = weighting(self.scores, magnitude(self.values), self.features)
        combined: Tensor = torch.einsum("gn,gna->na", weights, self.values)
        return combined


@dataclass(frozen=True)
class BranchTable:
    """Transitions as a frozen Q-network and its orbit see them; the network runs only once.

    Args:
        now: of the states s.
        following: of the states s′.
        actions: a, ``[N]``.
        rewards: r, ``[N]``.
        discounts: γ, or 0 where s′ is terminal, ``[N]``.
    """

    now: Branches
    following: Branches
    actions: Tensor
    rewards: Tensor
    discounts: Tensor

    def __len__(self) -> int:
        return len(self.actions)

    def bellman_errors(self) -> Tensor:
        """Q(gs, ga) − (r + γ max_b Q(gs′, b)) of each branch for itself, ``[|G|, N]``.

        By the symmetry (gs, ga, r, gs′) is a transition of the environment too, so each branch has
        errors of its own: they tell where the network can be believed.
        """
        targets = self.rewards + self.discounts * self.following.scores
        chosen = self.actions.expand(len(targets), -1)[..., None]
        return self.now.values.gather(2, chosen)[..., 0] - targets


def weighting_of(model: DQN) -> LambdaWeighting:
    """The λ of an agent's Q-network.

    Raises:
        AgentError: it has none.
    """
    weighting = _q_network(model).symmetrized.weighting
    if not isinstance(weighting, LambdaWeighting):
        raise AgentError("there is no λ: the method must be lambda, and |G| above one")
    return weighting


def _q_network(model: DQN) -> EquivariantQNetwork:
    if not isinstance(model.q_net, EquivariantQNetwork):
        raise AgentError(f"{type(model).__name__} with a plain policy has no orbit to look along")
    return model.q_net


@torch.no_grad()
def branch_table(model: DQN, played: Transitions) -> BranchTable:
    """Run the Q-network of a `lambda` agent along the orbits of the transitions."""
    q_net = _q_network(model)
    features = q_net.symmetrized.order * (
        q_net.net_arch[-1] if q_net.net_arch else q_net.features_dim
    )
    rows = list(range(len(played)))
    if len(rows) * features > LARGEST_TABLE:
        drawn = np.random.default_rng(0).permutation(len(rows))
        rows = drawn[: max(1, LARGEST_TABLE // features)].tolist()

    def column(values: Sequence[Any], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor([values[i] for i in rows], dtype=dtype, device=q_net.device)

    now = _branches(q_net, [played.observations[i] for i in rows])
    dtype = now.values.dtype
    return BranchTable(
        now,
        _branches(q_net, [played.next_observations[i] for i in rows]),
        column(played.actions, torch.long),
        column(played.rewards, dtype),
        model.gamma * (1 - column(played.terminated, dtype)),
    )


def _branches(q_net: EquivariantQNetwork, observations: Sequence[Any]) -> Branches:
    parts = [
        _branches_at_once(q_net, observations[i : i + STATES_AT_ONCE])
        for i in range(0, len(observations), STATES_AT_ONCE)
    ]
    return Branches(
        torch.cat([part.values for part in parts], dim=1),
        torch.cat([part.features for part in parts], dim=1),
    )


def _branches_at_once(q_net: EquivariantQNetwork, observations: Sequence[Any]) -> Branches:
    x, _ = q_net.obs_to_tensor(stacked(observations))
    outputs, features = q_net.symmetrized.outputs(x)
    return Branches(q_net.symmetrized.output_action.pull_back(outputs), features)
