"""The greedy policy alone, its symmetrization included, for a machine without training code."""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch.distributions import Distribution

from equirl import __version__
from equirl.actions import Leaf, leaves_of
from equirl.agents.greedy_policy import GreedyPolicy
from equirl.agents.native.native_policies import NativeEquivariantQNetwork
from equirl.errors import AgentError, ConfigError
from equirl.runs.atomic_write import written_whole
from equirl.shown import shortened
from equirl.symmetry import Symmetry

OUTPUTS = ("actions", "q_values")
SINGLE_INPUT = "observation"


def export_policy(
    model: BaseAlgorithm,
    path: str | Path,
    format: str = "onnx",
    observation_space: spaces.Space[Any] | None = None,
) -> None:
    """Write the greedy policy to a file that needs neither equirl nor SB3.

    It takes a batch of any size of observations as the environment gives them (images in their own
    layout, in their own dtype; a Dict as one input for each key, of its name; anything else as
    ``observation``) and gives ``actions``, and of DQN ``q_values`` beside them. What it is, stands
    in the metadata: ``equirl.version``, ``equirl.method``, ``equirl.group``,
    ``equirl.observations`` and ``equirl.actions``, each as JSON; in a ``.pt2`` in the
    extra file ``equirl.json``.

    Args:
        model: an agent, equivariant or plain.
        path: the file to write, which must not be there yet.
        format: ``"onnx"`` (needs ``pip install "equirl[export]"``), or ``"torch"``, a
            `torch.export` program for ``torch.export.load(path).module()``.
        observation_space: of what the policy will be given; left out, that of the model's symmetry,
            and of a plain model what its policy sees, which is images channel-first.

    Raises:
        ConfigError: no such format, the file is there already or cannot be written, or ``onnx`` is
            not installed.
        AgentError: a network that cannot be exported, such as one whose steps depend on numbers.

    Example:
        >>> import tempfile
        >>> from equirl.agents import EquivariantDQN
        >>> model = EquivariantDQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu")
        >>> path = Path(tempfile.mkdtemp()) / "policy.pt2"
        >>> export_policy(model, path, format="torch")
        >>> policy = torch.export.load(path).module()
        >>> actions, q_values = policy(torch.zeros(5, 4))
        >>> actions.shape, q_values.shape
        (torch.Size([5]), torch.Size([5, 2]))
    """
    path = Path(path)
    check_export(path, format)
    if observation_space is None:
        symmetry = _symmetrization(model).get("symmetry")
        observation_space = (symmetry or model).observation_space
    leaves = leaves_of(observation_space)
    try:
        with _quiet(), torch.no_grad():
            program = _program(GreedyPolicy(model, observation_space), observation_space)
            content = FORMATS[format](program, leaves, _metadata(model, leaves))
    except Exception as error:  # an extractor of the user's own can fail in any way
        raise AgentError(f"this agent cannot be exported as {format}: {_why(error)}") from error
    try:
        with written_whole(path) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _why(error: BaseException) -> str:
    """The first line of what was at the bottom of it, without the colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return shortened(lines[0]) if lines else type(error).__name__


def check_export(path: Path, format: str) -> None:
    """Refuse what would fail, before there is an agent to export; see `export_policy`."""
    if format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if SUFFIXES.get(path.suffix, format) != format:
        raise ConfigError(f"{path} is a name for format={SUFFIXES[path.suffix]}, got {format}")
    try:
        if path.exists():
            raise ConfigError(f"{path} exists already: choose another output, or remove it")
        if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
            raise ConfigError(
                f"{path} cannot be written: {path.absolute().parent} is no folder that can be "
                "written to"
            )
    except OSError as error:  # such as a name longer than the file system takes
        raise ConfigError(f"output cannot be {path}: {error.strerror}") from error
    if format == "onnx":
        for package in ("onnx", "onnxscript"):
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise ConfigError(
                    f'format=onnx needs {package}: pip install "equirl[export]", or say '
                    "format=torch"
                ) from error


def _program(
    policy: GreedyPolicy, observation_space: spaces.Space[Any]
) -> torch.export.ExportedProgram:
    leaves = leaves_of(observation_space)
    parts: Any = {None: observation_space}
    if isinstance(observation_space, spaces.Dict):
        parts = observation_space.spaces
    # Not one row: a size of one is taken to be one for ever.
    rows = {leaf.key: torch.from_numpy(_example(leaf, parts[leaf.key], 2)) for leaf in leaves}
    single = leaves[0].key is None
    example: Any = rows[None] if single else rows
    policy(example)  # what is computed once and kept, is computed from numbers and not in the graph
    batch = {0: torch.export.Dim.DYNAMIC}
    sizes: Any = batch if single else dict.fromkeys(rows, batch)
    # SB3's critics turn gradients on and off, though they are off here, and a program that does so
    # cannot be loaded again (torch 2.13).
    with mock.patch.object(torch, "set_grad_enabled", return_value=nullcontext()):
        return torch.export.export(policy, (example,), dynamic_shapes=(sizes,))


def _example(leaf: Leaf, space: Any, rows: int) -> np.ndarray[Any, Any]:
    low = np.clip(0, space.low, space.high) if leaf.low is None else np.array(leaf.low)
    return np.broadcast_to(low.reshape(leaf.shape), (rows, *leaf.shape)).astype(leaf.dtype)


def _as_onnx(
    program: torch.export.ExportedProgram, leaves: tuple[Leaf, ...], metadata: dict[str, Any]
) -> bytes:
    inputs = [_input_name(leaf) for leaf in leaves]
    outputs = OUTPUTS[: len(program.graph_signature.user_outputs)]
    taken = set(inputs) & set(outputs)
    if taken:
        raise AgentError(f"the observation's key {taken.pop()!r} is the name of an output")
    onnx_program = torch.onnx.export(
        program, input_names=inputs, output_names=list(outputs), dynamo=True, verbose=False
    )
    assert onnx_program is not None
    graph = onnx_program.model.graph
    for value in [value for node in graph for value in node.outputs]:
        if value.name in inputs:  # a key of the observation such as "relu"
            value.name = f"{value.name} inside"
    proto = onnx_program.model_proto
    for key, value in metadata.items():
        proto.metadata_props.add(key=f"equirl.{key}", value=json.dumps(value))
    importlib.import_module("onnx").checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _as_torch(
    program: torch.export.ExportedProgram, leaves: tuple[Leaf, ...], metadata: dict[str, Any]
) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"equirl.json": json.dumps(metadata)})
    return file.getvalue()


FORMATS: dict[str, Callable[..., bytes]] = {"onnx": _as_onnx, "torch": _as_torch}

SUFFIXES = {".onnx": "onnx", ".pt2": "torch"}
"""What the name of a file promises; any other name will do for either."""


def _input_name(leaf: Leaf) -> str:
    return SINGLE_INPUT if leaf.key is None else leaf.key


def _symmetrization(model: BaseAlgorithm) -> dict[str, Any]:
    q_net: Any = getattr(model, "q_net", None)
    if isinstance(q_net, NativeEquivariantQNetwork):
        return {"symmetry": q_net.native_args["symmetry"], "method": "native"}
    arguments: dict[str, Any] = getattr(model.policy, "symmetry_args", {})
    return arguments


def _metadata(model: BaseAlgorithm, leaves: tuple[Leaf, ...]) -> dict[str, Any]:
    symmetrization = _symmetrization(model)
    symmetry: Symmetry | None = symmetrization.get("symmetry")
    names = ("e",) if symmetry is None else symmetry.group.names
    return {
        "version": __version__,
        "method": symmetrization.get("method", "plain"),
        "group": names,
        "observations": {
            _input_name(leaf): {"shape": leaf.shape, "dtype": leaf.dtype} for leaf in leaves
        },
        "actions": _actions(model.action_space, symmetry, names),
    }


def _actions(
    space: spaces.Space[Any], symmetry: Symmetry | None, names: Sequence[str]
) -> dict[str, Any]:
    """What the actions are, and of discrete ones how the group permutes them."""
    if not isinstance(space, spaces.Discrete):
        return {"shape": space.shape, "dtype": str(space.dtype)}
    count = int(space.n)
    permutations = [list(range(count))] if symmetry is None else symmetry.permutations.tolist()
    return {"n": count, "permutations": dict(zip(names, permutations, strict=True))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about itself, and with distributions that ask nothing."""
    logger = logging.getLogger("torch.onnx")
    level, validates = logger.level, Distribution._validate_args
    logger.setLevel(logging.ERROR)
    Distribution.set_default_validate_args(False)  # it would ask what the numbers are
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        Distribution.set_default_validate_args(validates)
