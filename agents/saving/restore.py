"""A saved agent as it was, for acting and looking at, without unpickling anything."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import Space
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.families import FAMILIES, class_of
from equirl.agents.saving.feature_order import same_order
from equirl.agents.saving.saved_agent import SavedAgent
from equirl.envs import symmetry_of
from equirl.errors import AgentError, SymmetryError, UntrustedError
from equirl.shown import shortened
from equirl.symmetry import Symmetry


class SpacesAlone(gym.Env[Any, Any]):
    """The spaces that an agent was made for; there is nothing to play."""

    def __init__(self, observation_space: Space[Any], action_space: Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space


def restore(
    agent: SavedAgent, env: gym.Env[Any, Any] | None = None, device: str = "auto"
) -> BaseAlgorithm:
    """The agent with its own weights, method and symmetry, for acting: equivariant, or plain.

    Training goes on with its class's ``load``, which unpickles.

    Args:
        agent: what `read_agent` read.
        env: the environment; may be left out where the file describes the agent's spaces, and of
            an equivariant one the symmetry.
        device: where the networks go.

    Raises:
        AgentError: it was made for other spaces.
        UntrustedError: it holds what only its pickles tell.
        SymmetryError: the environment's own symmetry is asked for and not known.
    """
    family = FAMILIES[agent.architecture.algorithm]
    kwargs: dict[str, Any] = {"device": device}
    if not family.is_on_policy:  # SB3's defaults, as the file says these in a pickle only
        kwargs.update(buffer_size=1, replay_buffer_class=None, train_freq=4, gradient_steps=1)
    if not agent.is_equivariant:
        stock: type[BaseAlgorithm] = class_of(family.stock)
        return agent.build(stock, _as_saved(agent, env) or _saved_spaces(agent), **kwargs)
    if not agent.policy_module.startswith("equirl."):
        module = shortened(agent.policy_module) or "an unknown module"
        raise UntrustedError(
            f"{agent.path} was saved with a policy class of {module}, which only its pickle holds, "
            "and that could run any code"
        )
    symmetry = agent.symmetry or _symmetry_of(agent, env)
    policy_kwargs = {"symmetry": symmetry, **agent.symmetrization}
    alone = SpacesAlone(symmetry.observation_space, symmetry.action_space)
    there = _as_saved(agent, env) or alone
    try:
        algorithm = class_of(family.stock if agent.is_native else family.equivariant)
        model: BaseAlgorithm = agent.build(algorithm, there, policy_kwargs=policy_kwargs, **kwargs)
    except SymmetryError as error:
        raise AgentError(
            f"{agent.path} does not fit this environment: {error}; name the one it was trained in"
        ) from error
    # `build` lets the method change; here a λ that is not there would be another agent.
    differing = sorted(set(model.policy.state_dict()) ^ set(agent.weights))
    if differing:
        names = shortened(", ".join(differing[:3]))
        raise AgentError(f"{agent.path} holds another network: {names} differ")
    return model


def _as_saved(agent: SavedAgent, env: gym.Env[Any, Any] | None) -> gym.Env[Any, Any] | None:
    """The environment; where its keys stand in another order than when it was saved, its spaces.

    A Dict is told by its keys in acting, whatever their order; but which of two points is the
    lexicographically first, for one, is a matter of order.
    """
    saved = agent.observation_space.space
    if env is None or saved is None or same_order(saved, env.observation_space):
        return env
    seen = BaseAlgorithm._wrap_env(env, monitor_wrapper=False)
    agent.check_spaces(seen.observation_space, seen.action_space)
    return SpacesAlone(saved, env.action_space)


def _saved_spaces(agent: SavedAgent) -> SpacesAlone:
    observations, actions = agent.observation_space.space, agent.action_space.space
    if observations is None or actions is None:
        raise AgentError(f"{agent.path} does not describe its spaces: name its environment")
    return SpacesAlone(observations, actions)


def _symmetry_of(agent: SavedAgent, env: gym.Env[Any, Any] | None) -> Symmetry:
    """The environment's symmetry, if it looks like the one the agent was saved with."""
    if env is None:
        raise AgentError(
            f"{agent.path} describes its symmetry in a pickle only: name its environment"
        )
    symmetry = symmetry_of(env)
    saved = agent.data["policy_kwargs"].get("symmetry")
    by_name = env.spec is not None and saved == env.spec.id
    if saved != repr(symmetry) and not by_name:
        raise AgentError(
            f"{agent.path} was saved with the symmetry {shortened(str(saved))}, the environment "
            f"has {symmetry}"
        )
    return symmetry
