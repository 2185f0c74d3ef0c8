"""Transitions played with a frozen agent, and what its networks say along their orbits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.agents import symmetrized_network
from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic
from equirl.agents.symmetrized_actor import SymmetrizedActor
from equirl.agents.symmetrized_network import OrbitView
from equirl.agents.training.evaluation import greedy_actions, stacked, takes_masks
from equirl.errors import AgentError
from equirl.symmetrize import LambdaWeighting, magnitude
from equirl.verification.play import kept

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
    actions: list[Any]
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
    models: Sequence[BaseAlgorithm],
    make_env: Callable[[], gym.Env[Any, Any]],
    steps: int,
    epsilon: float,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Transitions:
    """Play exactly ``steps`` environment steps, each episode with the next of the models.

    An agent that is told which actions are allowed plays none at random.

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
        env.action_space.seed(seed)
        has_masks = env.has_wrapper_attr("action_masks")
        while len(played) < steps:
            model = models[episodes % len(models)]
            random_share = 0.0 if has_masks and takes_masks(model) else epsilon
            observation = kept(env.reset(seed=seed + episodes)[0])
            over = False
            while not over and len(played) < steps:
                action = greedy_actions(model, [observation], [env])[0]
                if random.random() < random_share:
                    action = env.action_space.sample()
                following, reward, terminated, truncated, _ = env.step(action)
                following = kept(following)
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
    """The frozen networks along the orbits of N states.

    Args:
        values: g⁻¹M(gs), ``[|G|, N, *Y]``; of a value-based agent g⁻¹Q(gs), ``[|G|, N, actions]``.
        scores: what the agent's own critic says of gs, ``[|G|, N]``.
        features: φ(gs), ``[|G|, N, features]``.
    """

    values: Tensor
    scores: Tensor
    features: Tensor

    def of(self, rows: Tensor) -> Branches:
        """Those of some of the states, by number."""
        return Branches(self.values[:, rows], self.scores[:, rows], self.features[:, rows])

    def q_values(self, weighting: LambdaWeighting) -> Tensor:
        """Q_G(s, ·) = Σ_g w_g(s) g⁻¹Q(gs), ``[N, actions]``."""
        weights = weighting(self.scores, magnitude(self.values), self.features)
        combined: Tensor = torch.einsum("gn,gna->na", weights, self.values)
        return combined


@dataclass(frozen=True)
class BranchTable:
    """Transitions as frozen networks and their orbit see them; the networks run only once.

    Args:
        now: of the states s.
        following: of the states s′.
        taken: what each branch says of the action that was taken, Q(gs, ga), ``[|G|, N]``; of an
            agent whose critic knows no actions V(gs).
        actions: a, ``[N]`` or ``[N, *A]``.
        rewards: r, ``[N]``.
        discounts: γ, or 0 where s′ is terminal, ``[N]``.
        is_value_based: whether the agent acts by its Q-values.
    """

    now: Branches
    following: Branches
    taken: Tensor
    actions: Tensor
    rewards: Tensor
    discounts: Tensor
    is_value_based: bool

    def __len__(self) -> int:
        return len(self.actions)

    def bellman_errors(self) -> Tensor:
        """Q(gs, ga) − (r + γ max_b Q(gs′, b)) of each branch for itself, ``[|G|, N]``.

        By the symmetry (gs, ga, r, gs′) is a transition of the environment too, so each branch has
        errors of its own: they tell where the network can be believed. Of an actor the value of
        gs′ is what its critic says of the branch's own action there.
        """
        return self.taken - (self.rewards + self.discounts * self.following.scores)


def acting_network(model: BaseAlgorithm) -> Any:
    """The symmetrized network of an agent that chooses its actions.

    Raises:
        AgentError: a plain one.
    """
    found = symmetrized_network.acting_network(model.policy)
    if found is None:
        raise AgentError(f"{type(model).__name__} with a plain policy has no orbit to look along")
    return found


def acts_by_values(model: BaseAlgorithm) -> bool:
    """Whether an agent takes the action of the highest Q-value, and has no actor."""
    return not isinstance(acting_network(model), SymmetrizedActor | SymmetrizedActorCritic)


def weighting_of(model: BaseAlgorithm) -> LambdaWeighting:
    """The λ of an agent's acting network.

    Raises:
        AgentError: it has none.
    """
    weighting = acting_network(model).symmetrized.weighting
    if not isinstance(weighting, LambdaWeighting):
        raise AgentError("there is no λ: the method must be lambda, and |G| above one")
    return weighting


@torch.no_grad()
def branch_table(
    model: BaseAlgorithm, played: Transitions, reward_scale: float = 1.0
) -> BranchTable:
    """Run the networks of a `lambda` agent along the orbits of the transitions.

    Args:
        model: the agent.
        played: by any agent.
        reward_scale: what its critic was trained on, divided by the rewards played.
    """
    drawn = list(range(len(played)))
    one = view_orbits(model, played.observations[:1])
    if len(drawn) * one.features[:, 0].numel() > LARGEST_TABLE:
        most = max(1, LARGEST_TABLE // one.features[:, 0].numel())
        drawn = np.random.default_rng(0).permutation(len(drawn))[:most].tolist()
    observations, actions, rewards, following, terminated = (
        [column[i] for i in drawn]
        for column in (
            played.observations,
            played.actions,
            played.rewards,
            played.next_observations,
            played.terminated,
        )
    )
    now, then = view_orbits(model, observations), view_orbits(model, following)
    dtype, device = now.scores.dtype, now.scores.device
    gamma: float = getattr(model, "gamma")  # noqa: B009 (BaseAlgorithm has none)
    going_on = 1 - torch.tensor(terminated, dtype=dtype, device=device)
    return BranchTable(
        Branches(now.branches, now.scores, now.features),
        Branches(then.branches, then.scores, then.features),
        taken_values(model, now, observations, actions),
        torch.as_tensor(np.stack(actions), device=device),
        reward_scale * torch.tensor(rewards, dtype=dtype, device=device),
        gamma * going_on,
        acts_by_values(model),
    )


def view_orbits(model: BaseAlgorithm, observations: Sequence[Any]) -> OrbitView:
    """The acting network along the orbits of states; quantiles as the mean over them."""
    network = acting_network(model)
    parts = [
        network.view_orbit(model.policy.obs_to_tensor(stacked(some))[0])
        for some in _batches(observations)
    ]
    branches, scores, scale, features = (
        torch.cat(column, dim=min(1, column[0].dim() - 1)) for column in zip(*parts, strict=True)
    )
    return OrbitView(branches.mean(2) if branches.dim() == 4 else branches, scores, scale, features)


@torch.no_grad()
def taken_values(
    model: BaseAlgorithm, view: OrbitView, observations: Sequence[Any], actions: Sequence[Any]
) -> Tensor:
    """What each branch's critic says of given actions, Q(gs, ga) or else V(gs), ``[|G|, N]``.

    Args:
        model: the agent.
        view: of these observations.
        observations: s.
        actions: a, as the environment takes them.
    """
    network = acting_network(model)
    if isinstance(network, SymmetrizedActorCritic):
        return view.scores
    taken = np.stack(actions)
    if isinstance(network, SymmetrizedActor):
        policy: Any = model.policy
        scaled = policy.scale_action(taken).reshape(len(taken), -1)
        critic = policy.critic

        def estimates(points: Any) -> Tensor:
            found: Tensor = critic.estimates(*critic.points.split(points))
            return found

        parts = []
        rows = torch.as_tensor(scaled, dtype=torch.float32, device=model.device)
        for some, of in zip(_batches(observations), _batches(rows), strict=True):
            points = critic.points.join(policy.obs_to_tensor(stacked(some))[0], of)
            parts.append(critic.symmetrized.along_orbit(estimates, points).amin(dim=2))
        return torch.cat(parts, dim=1)
    chosen = torch.as_tensor(taken, device=view.branches.device).long()
    return view.branches.gather(2, chosen.expand(len(view.branches), -1)[..., None])[..., 0]


def _batches(rows: Any) -> list[Any]:
    return [rows[i : i + STATES_AT_ONCE] for i in range(0, len(rows), STATES_AT_ONCE)]
