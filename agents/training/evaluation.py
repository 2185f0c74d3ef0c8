"""Playing episodes with an agent: many at a time, each with a seed of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from equirl.envs import TransformWrapper
from equirl.errors import AgentError

MAX_PARALLEL = 64


class Player(Protocol):
    """A model of SB3, or a policy alone."""

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, Any]:
        """Actions for a batch of observations, and a state, which is not used."""


@dataclass(frozen=True)
class Episodes:
    """What happened in a number of episodes.

    Args:
        returns: undiscounted return of each episode, ``[episodes]``.
        lengths: number of steps of each, ``[episodes]``.
        successes: the last ``info["is_success"]`` of each, or None where there is none.
    """

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    successes: npt.NDArray[np.bool_] | None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % confidence interval of the mean (normal approximation)."""
        return half_width(self.returns)

    def __str__(self) -> str:
        success = "" if self.successes is None else f", {self.successes.mean():.0%} successful"
        spread = self.half_width if len(self.returns) > 1 else 0.0
        digits = 1 if max(abs(self.mean), spread) >= 10 else 3
        mean = f"{self.mean:.{digits}f}"
        if len(self.returns) == 1:
            return f"{mean} over 1 episode{success}"
        return f"{mean} ± {spread:.{digits}f} over {len(self.returns)} episodes{success}"


def half_width(values: npt.NDArray[np.float64]) -> float:
    """Half the width of the 95 % confidence interval of a mean (normal approximation)."""
    if len(values) < 2:
        return float("inf")
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def play_episodes(
    model: Player,
    make_env: Callable[[], gym.Env[Any, Any]],
    seeds: Sequence[int],
    on_episode: Callable[[], None] = lambda: None,
) -> Episodes:
    """One greedy episode per seed, up to 64 side by side with one forward pass for all.

    SB3's `evaluate_policy` cannot give each episode its seed, which pairing two agents needs, and
    runs one forward pass per step and environment.

    Args:
        model: the agent.
        make_env: makes one environment.
        seeds: of the episodes; ``env.reset(seed=…)``.
        on_episode: called after each finished episode.
    """
    count = len(seeds)
    returns, lengths = np.zeros(count), np.zeros(count, dtype=np.int64)
    successes: list[bool | None] = [None] * count
    envs = [make_env() for _ in range(min(count, MAX_PARALLEL))]
    try:
        playing = list(range(len(envs)))  # playing[i] is the episode that envs[i] is in
        observations = [env.reset(seed=seeds[i])[0] for i, env in enumerate(envs)]
        following = len(envs)
        while playing:
            actions = greedy_actions(model, observations, envs)
            still_playing = []
            for i, (env, episode) in enumerate(zip(envs, playing, strict=True)):
                observations[i], reward, terminated, truncated, info = env.step(actions[i])
                returns[episode] += float(reward)
                lengths[episode] += 1
                if terminated or truncated:
                    successes[episode] = info.get("is_success")
                    on_episode()
                    if following < count:
                        playing[i], following = following, following + 1
                        observations[i] = env.reset(seed=seeds[playing[i]])[0]
                    else:
                        continue
                still_playing.append(i)
            if len(still_playing) < len(playing):
                for i in set(range(len(envs))) - set(still_playing):
                    envs[i].close()
                envs = [envs[i] for i in still_playing]
                playing = [playing[i] for i in still_playing]
                observations = [observations[i] for i in still_playing]
    finally:
        for env in envs:
            env.close()
    known = [success for success in successes if success is not None]
    return Episodes(returns, lengths, np.array(known) if len(known) == count else None)


def greedy_actions(
    model: Player, observations: Sequence[Any], envs: Sequence[gym.Env[Any, Any]]
) -> Any:
    """The agent's actions ``[environments, *A]``, those that sb3-contrib's masks allow.

    Args:
        model: the agent.
        observations: one of each environment.
        envs: where they come from; an agent that takes masks is given their ``action_masks()``.

    Raises:
        AgentError: masks of an environment that is seen through a group element.
    """
    arguments: dict[str, Any] = {}
    if takes_masks(model):
        found = [_mask(env) for env in envs]
        if all(mask is not None for mask in found):
            arguments["action_masks"] = np.stack(found)
    return model.predict(stacked(observations), deterministic=True, **arguments)[0]


def takes_masks(player: Player) -> bool:
    """Whether an agent, or the one within a player, is one of sb3-contrib's that takes masks."""
    of_its_own = "action_masks" in inspect.signature(player.predict).parameters
    return of_its_own or bool(getattr(player, "takes_masks", False))


def _mask(env: gym.Env[Any, Any]) -> Any:
    if not env.has_wrapper_attr("action_masks"):
        return None
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, TransformWrapper):
            raise AgentError(
                f"action_masks of {env.unwrapped} are not moved by TransformWrapper: leave "
                "transform out"
            )
        layer = layer.env
    return env.get_wrapper_attr("action_masks")()


def stacked(observations: Sequence[Any]) -> Any:
    """Observations as one batch; of dicts, a dict of batches."""
    if isinstance(observations[0], dict):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack(observations)
