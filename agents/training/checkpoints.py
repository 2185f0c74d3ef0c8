"""Checkpoints: SB3 zips that also hold all that training needs to go on as if never stopped."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecTransposeImage

from equirl.agents.replay.replay_rows import ReplayRows
from equirl.agents.training.divergence import check_parameters
from equirl.errors import AgentError
from equirl.runs.atomic_write import written_whole

STATE_FILE = "training_state.pkl"
ROWS_FILE = "replay_rows.json"

ATTRIBUTES = (
    "num_timesteps",
    "_n_calls",
    "_n_updates",
    "_episode_num",
    "_current_progress_remaining",
    "exploration_rate",
    "ep_info_buffer",
    "ep_success_buffer",
    "_last_obs",
    "_last_episode_starts",
    "_last_original_obs",
)
"""What changes in training and is neither a parameter nor the buffer, where a model has it."""

LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")
"""Of SB3's logger, what is recorded and not yet written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Args:
        path: where it is.
        parameters: of policy and optimisers, by SB3's names.
        variables: tensors of the algorithm's own, such as SAC's log of the entropy coefficient.
        state: everything else, but for the replay buffer.
        rows: the files of the replay buffer.
    """

    path: Path
    parameters: dict[str, Any]
    variables: Mapping[str, Any]
    state: Mapping[str, Any]
    rows: Sequence[str]

    @property
    def step(self) -> int:
        """Environment steps that had been taken."""
        return int(self.state["attributes"]["num_timesteps"])


def save_atomically(model: BaseAlgorithm, path: Path) -> None:
    """Save a model so that ``path`` holds either the old file or the whole new one, never half."""
    with written_whole(path) as aside:
        model.save(aside)


def save_checkpoint(
    model: BaseAlgorithm, path: Path, rows: ReplayRows, more: Mapping[str, Any] | None = None
) -> None:
    """Save all that training needs to go on; call it between two rounds or rollouts.

    A rollout needs no file: the next one begins with an empty buffer.

    Args:
        model: in training.
        path: a ``.zip``, which SB3's ``load`` also reads.
        rows: where the replay buffer goes.
        more: comes back as ``state["more"]``.

    Raises:
        RunError: a parameter is not finite; nothing is written then.
        OSError: the file cannot be written; an older one is then as it was.
    """
    check_parameters(model)
    assert model.env is not None
    buffer = getattr(model, "replay_buffer", None)
    names = [] if buffer is None else rows.write(buffer, _rows_added(model))
    state = {
        "attributes": {name: vars(model)[name] for name in ATTRIBUTES if name in vars(model)},
        "random": _random_states(model),
        "episodes": model.env.env_method("snapshot") if model.env.has_attr("snapshot") else None,
        "logged": {name: dict(getattr(model.logger, name)) for name in LOGGED},
        "more": more,
    }
    with written_whole(path) as aside:
        model.save(aside)
        with zipfile.ZipFile(aside, "a") as archive:
            archive.writestr(STATE_FILE, cloudpickle.dumps(state))
            archive.writestr(ROWS_FILE, json.dumps(names))


def read_checkpoint(model: BaseAlgorithm, path: Path, rows: ReplayRows) -> Checkpoint:
    """Read a checkpoint, the replay buffer of a new model included.

    Unpickles parts of the file: read only what you trust.

    Raises:
        AgentError: it is damaged or incomplete.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if STATE_FILE not in archive.namelist():
                raise AgentError(f"{path} is damaged (no training state in it)")
            state = cloudpickle.loads(archive.read(STATE_FILE))
        _, parameters, variables = load_from_zip_file(path, load_data=False, device=model.device)
        names = replay_files(path)
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None:
            rows.read(buffer, names, _rows_added(model, state["attributes"]))
        return Checkpoint(path, parameters, variables or {}, state, names)
    except AgentError:
        raise
    except Exception as error:  # zip files, pickles and NumPy have many ways of saying "damaged"
        why = " ".join(str(error).split()) or type(error).__name__
        raise AgentError(f"{path} is damaged ({why})") from error


def _rows_added(model: BaseAlgorithm, attributes: Mapping[str, Any] | None = None) -> int:
    """How often a row has been added to the replay buffer."""
    steps = model.num_timesteps if attributes is None else attributes["num_timesteps"]
    return int(steps) // model.n_envs


def replay_files(path: Path) -> list[str]:
    """The files of the replay buffer that a checkpoint needs."""
    with zipfile.ZipFile(path) as archive:
        names: list[str] = json.loads(archive.read(ROWS_FILE))
    return names


def go_on_from(checkpoint: Checkpoint, model: BaseAlgorithm, seed: int) -> list[int]:
    """Bring a new model, its environments and all random generators to where a checkpoint was.

    Args:
        checkpoint: from `read_checkpoint`.
        model: of the same configuration, with a logger.
        seed: for episodes that have to begin anew.

    Returns:
        The environments whose running episode could not be continued: a new one has begun there.
    """
    state = checkpoint.state
    model.set_parameters(checkpoint.parameters, exact_match=True, device=model.device)
    for name, tensor in checkpoint.variables.items():
        getattr(model, name).data = tensor.data
    for name, value in state["attributes"].items():
        setattr(model, name, value)
    for name in LOGGED:
        getattr(model.logger, name).update(state["logged"][name])
    restarted = _restore_episodes(model, state["episodes"], seed)
    _set_random_states(model, state["random"])
    return restarted


def _restore_episodes(model: BaseAlgorithm, episodes: Sequence[Any] | None, seed: int) -> list[int]:
    env = model.env
    assert env is not None
    if episodes is None:
        model._last_obs = None  # `learn` then resets
        for i in range(env.num_envs):
            _end_episode(model, i)
        return list(range(env.num_envs))
    seeds = np.random.SeedSequence([seed, model.num_timesteps]).generate_state(env.num_envs)
    restarted = []
    for i, episode in enumerate(episodes):
        (first,) = env.env_method("restore", episode, int(seeds[i]), indices=i)
        if first is not None:
            restarted.append(i)
            _begin_anew(model, i, first)
    return restarted


def _begin_anew(model: BaseAlgorithm, index: int, observation: Any) -> None:
    """A new episode in one environment: what was replayed so far ends as at a time limit."""
    if isinstance(model.env, VecTransposeImage):
        batched = _batched(observation)
        transposed: Any = model.env.transpose_observations(batched)
        observation = (
            {k: v[0] for k, v in transposed.items()}
            if isinstance(transposed, dict)
            else transposed[0]
        )
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        original: Any = model._last_original_obs
        if original is not None:
            original[index] = observation
        observation = normalizer.normalize_obs(observation)
        normalizer.returns[index] = 0
    last: Any = model._last_obs
    if isinstance(last, dict):
        for key, part in observation.items():
            last[key][index] = part
    else:
        last[index] = observation
    if getattr(model, "replay_buffer", None) is None:
        model._last_episode_starts[index] = True  # type: ignore[index]  # made by then
    _end_episode(model, index)


def _end_episode(model: BaseAlgorithm, index: int) -> None:
    """The last row of a replay buffer ends an episode, as at a time limit."""
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None or buffer.size() == 0 or buffer.dones[buffer.pos - 1, index]:
        return
    buffer.dones[buffer.pos - 1, index] = 1
    # Without next observations of its own it ends as SB3 lets it: as if that were the end of all.
    if not buffer.optimize_memory_usage:
        buffer.timeouts[buffer.pos - 1, index] = 1


def _batched(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.asarray(part)[None] for key, part in observation.items()}
    return np.asarray(observation)[None]


def _random_states(model: BaseAlgorithm) -> dict[str, Any]:
    return {
        "python": random.getstate(),
        # SB3 draws from NumPy's global state (NPY002).
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "actions": model.action_space.np_random.bit_generator.state,
    }


def _set_random_states(model: BaseAlgorithm, states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002  # as above
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
    model.action_space.np_random.bit_generator.state = states["actions"]
