"""What is in the zip of a saved agent, read without running anything from it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from equirl.agents.saving.agent_format import check_format
from equirl.errors import AgentError
from equirl.runs.run_directory import RunDirectory
from equirl.shown import reason, shown


class Parts(NamedTuple):
    """Of an agent's zip, what can be read so.

    Args:
        data: the JSON description that SB3 writes.
        weights: the state dict of the policy.
        training: what training goes on with, by the names that SB3 gives it: the states of the
            optimisers, and variables such as SAC's temperature. What could only be unpickled is
            left out.
    """

    data: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, dict[str, Any]]


def agent_path(path: Path) -> Path:
    """The file that is meant by a path, which may lack ``.zip`` or be a run directory.

    Raises:
        AgentError: there is no such file.
    """
    for candidate in (path, Path(f"{path}.zip"), RunDirectory(path).best_model):
        try:
            if candidate.is_file():
                return candidate
        except OSError:  # such as a name longer than the file system takes
            break
    raise AgentError(
        f"there is no agent at {path}: give the .zip that model.save wrote, or a run directory"
    )


def read_parts(path: Path, file: BinaryIO | None = None) -> Parts:
    """Reads the parts of the agent at ``path``.

    Args:
        path: of the zip, or what to call the agent in messages.
        file: the zip, where it is not a file.

    Raises:
        AgentError: the file is damaged, not an SB3 agent, or saved by a later version of equirl.
    """
    try:
        with zipfile.ZipFile(file or path) as archive:
            names = archive.namelist()
            if "data" not in names and file is None and _begins_as_agent(path):
                # The list of contents that was found is that of a zip inside.
                raise AgentError(f"{path} is damaged: its end is missing")
            if not {"data", "policy.pth"} <= set(names):
                raise AgentError(
                    f"{path} is not a Stable-Baselines3 agent: it holds {shown(names[:5])}, "
                    "not data and policy.pth"
                )
            data = json.loads(archive.read("data"))
            weights = _tensors(archive.read("policy.pth"))
            read = {
                name.removesuffix(".pth"): _tensors_or_none(archive.read(name))
                for name in names
                if name.endswith(".pth") and name != "policy.pth"
            }
            training = {name: state for name, state in read.items() if isinstance(state, dict)}
    except AgentError:
        raise
    except Exception as error:  # damaged bytes make zlib, json and torch raise almost anything
        raise AgentError(f"{path} is damaged or not a zip ({reason(error)})") from error
    if not isinstance(data, dict):
        raise AgentError(f"{path} is damaged: its data is a JSON {type(data).__name__}, not object")
    check_format(path, data)
    if not _is_state_dict(weights):
        raise AgentError(
            f"{path} is not a Stable-Baselines3 agent: its policy.pth is not a dict of tensors"
        )
    return Parts(data, weights, training)


def _begins_as_agent(path: Path) -> bool:
    """Whether the first file in the zip is the description that SB3 writes first."""
    with path.open("rb") as file:
        return file.read(34)[30:] == b"data"


def _tensors(file: bytes) -> Any:
    return torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)


def _tensors_or_none(file: bytes) -> Any:
    try:
        return _tensors(file)
    except pickle.UnpicklingError:  # it names classes: acting does without it
        return None


def _is_state_dict(weights: Any) -> bool:
    return isinstance(weights, dict) and all(
        isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
    )
