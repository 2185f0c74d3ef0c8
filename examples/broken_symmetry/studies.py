"""What the comparisons of this folder share: where a run is played, watched and written."""

from __future__ import annotations

import copy
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from learners import build, vary
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from equirl.agents.equivariance_metrics import alphas
from equirl.agents.training.evaluation import play_episodes
from equirl.envs import symmetry_of
from equirl.envs.registry import registered_state_maps
from equirl.symmetrize import relaxation

Kind = Callable[[gym.Env[Any, Any]], str | tuple[str, ...]]
"""Of the state that an environment is in, or of each action there."""
Place = Callable[[gym.Env[Any, Any]], tuple[int, ...]]


def main(kind: str, run: Callable[[str, str, int, int], dict[str, Any]], steps: int) -> None:
    """Train as the command line says: TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]].

    Args:
        kind: of the comparison, with which the names of its files begin.
        run: from a task, a method, a seed and environment steps to what was found.
        steps: unless the command line says another number.
    """
    torch.set_num_threads(1)
    task, method, seeds, folder, *options = sys.argv[1:]
    way = options[0] if options else "-"
    if way != "-":
        vary(way)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for seed in map(int, seeds.split(",")):
        found = run(task, method, seed, int(options[1]) if len(options) > 1 else steps)
        found |= {"task": task, "method": method, "seed": seed, "way": way}
        name = f"{kind}-{task}-{method}-{way}-{seed}.json"
        (Path(folder) / name).write_text(json.dumps(found))
        final = found["final"] if "final" in found else found["returns"][-1]
        print(name, round(final, 3), round(found["seconds"]), flush=True)


class Watch(BaseCallback):
    def __init__(self, make_env: Any, every: int, episodes: int) -> None:
        super().__init__()
        self.make_env, self.every, self.episodes = make_env, every, episodes
        self.found: dict[str, list[Any]] = {"steps": [], "returns": [], "alpha": []}

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            seeds = range(1_000_000, 1_000_000 + self.episodes)
            self.found["steps"].append(self.num_timesteps)
            self.found["returns"].append(play_episodes(self.model, self.make_env, seeds).mean)
            buffer = self.model.replay_buffer
            rows = buffer.observations[max(0, buffer.pos - 125) : buffer.pos]
            seen = torch.as_tensor(rows.reshape(-1, *rows.shape[2:]))
            self.model.policy.set_training_mode(False)
            alpha = alphas(self.model, seen)
            self.found["alpha"].append(None if alpha is None else float(alpha.mean()))
        return True


def images(env: gym.Env[Any, Any]) -> Iterator[Any]:
    """Of each element of the group, the identity first, the environment in its image of the state.

    It needs an environment that can be copied, with registered state maps.
    """
    for maps in _state_maps(env):
        moved: Any = copy.deepcopy(env.unwrapped)
        for move in maps:
            move(moved)
        yield moved


def kind_along_orbit(env: gym.Env[Any, Any]) -> str:
    """``broken`` where the environment is, in this state or in an image of it; else ``other``.

    An equivariant agent does the same in all of an orbit, so that one broken state of it is enough.
    """
    broken = any(getattr(moved, "is_broken", False) for moved in images(env))
    return "broken" if broken else "other"


@functools.lru_cache(maxsize=1)
def _state_maps(env: gym.Env[Any, Any]) -> list[list[Callable[[Any], None]]]:
    """Of each element of the group the state maps that carry it out, one after the other."""
    group, maps = symmetry_of(env).group, registered_state_maps(env.spec and env.spec.id)
    moves = [maps[group.names[generator]] for generator in group.generators]
    return [[moves[k] for k in word] for word in group.words(group.generators)]


def states(
    env: gym.Env[Any, Any], model: Any, count: int, kind: Kind, place: Place | None
) -> tuple[Any, Any, Any]:
    """Observations that the agent meets, a tenth of its actions random; their kinds and places."""
    rng = np.random.default_rng(0)
    seen, kinds, places = [], [], []
    observation, _ = env.reset(seed=0)
    while len(seen) < count:
        seen.append(observation)
        kinds.append(kind(env))
        places.append(place(env) if place else ())
        action = int(model.predict(observation, deterministic=True)[0])
        action = int(rng.integers(env.action_space.n)) if rng.random() < 0.1 else action
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
    return np.array(seen), np.array(kinds), np.array(places)


def by_place(places: np.ndarray, values: dict[str, np.ndarray]) -> dict[str, Any]:
    """How many states are in each place, and the means there of each value, over actions too."""
    shape = tuple(places.max(axis=0) + 1)
    counts = np.zeros(shape)
    np.add.at(counts, tuple(places.T), 1)
    found = {"seen_by_place": counts.tolist()}
    for name, of_states in values.items():
        sums = np.zeros(shape)
        np.add.at(sums, tuple(places.T), of_states.reshape(len(places), -1).mean(axis=1))
        found[f"{name}_by_place"] = (sums / np.maximum(counts, 1)).tolist()
    return found


def trained(
    task: tuple[str, dict[str, Any]],
    n_envs: int,
    method: str,
    settings: dict[str, Any],
    steps: int,
    every: int,
    episodes: int,
    kind: Kind = kind_along_orbit,
    place: Place | None = None,
) -> dict[str, Any]:
    """What was found of one agent.

    Args:
        task: an environment's id and arguments.
        n_envs: environments it is trained on.
        method: see `learners.build`.
        settings: those of DQN, the seed among them.
        steps: of all environments together.
        every: steps between two evaluations.
        episodes: of an evaluation; after training there are 50 others.
        kind: of each kind of state or of action, alpha is told for itself.
        place: of the state in a picture of alpha.
    """
    started = time.process_time()
    env_id, kwargs = task

    def make_env() -> gym.Env[Any, Any]:
        return gym.make(env_id, **kwargs)

    env = make_vec_env(env_id, n_envs, seed=settings["seed"], env_kwargs=kwargs)
    model = build(env, method, settings)
    watch = Watch(make_env, every // n_envs, episodes)
    model.learn(steps, callback=watch)
    found: dict[str, Any] = {**watch.found}
    fresh = range(2_000_000, 2_000_050)
    found["final"] = play_episodes(model, make_env, fresh).mean
    if method.startswith("relaxed"):
        seen, kinds, places = states(make_env(), model, 3000, kind, place)
        model.policy.set_training_mode(False)
        tensor = model.policy.obs_to_tensor(seen)[0]  # images channel-first
        alpha = alphas(model, tensor)
        assert alpha is not None
        values, of_pairs = alpha.numpy(), kinds.ndim == 2
        if of_pairs and values.ndim == 1:
            values = np.broadcast_to(values[:, None], kinds.shape)
        with torch.no_grad():
            parts = relaxation(model.q_net.symmetrized, tensor)
        differ = (parts.plain - parts.symmetric).abs().numpy()
        for name in np.unique(kinds):
            where = kinds == name
            found[f"alpha_{name}"] = float(values[where].mean())
            found[f"above_half_{name}"] = float((values[where] > 0.5).mean())
            found[f"below_tenth_{name}"] = float((values[where] < 0.1).mean())
            found[f"share_{name}"] = float(where.mean())
            # of all by which Q and Q_G differ there, how much is let go of
            mixed = values.reshape(*where.shape, -1) * differ.reshape(*where.shape, -1)
            whole = differ.reshape(*where.shape, -1)[where].sum()
            found[f"let_go_{name}"] = float(mixed[where].sum() / whole)
            if values.ndim == 2 and not of_pairs:
                found[f"by_action_{name}"] = values[where].mean(axis=0).tolist()
                above = (values[where] > 0.5).mean(axis=0).tolist()
                below = (values[where] < 0.1).mean(axis=0).tolist()
                found |= {f"above_by_action_{name}": above, f"below_by_action_{name}": below}
        if place:
            found |= by_place(places, {"alpha": values, "gap": differ})
    found["seconds"] = time.process_time() - started
    return found
