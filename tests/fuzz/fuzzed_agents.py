"""Agent files that were damaged, or made up."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from hypothesis import strategies as st
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import EquirlError
from fuzz.guarded import check_message, comes_to_an_end
from shared.sampled import Sampled

Members = dict[str, bytes]
VECTOR = spaces.Box(-1, 1, (4,))
MIXED = spaces.Dict(place=spaces.Discrete(3), vector=spaces.Box(-1, 1, (3,)))
MIRROR = {"mirror": (np.negative, [1, 0])}
MIXED_MIRROR = {"mirror": ({"place": [2, 1, 0], "vector": [-1, 1, 1]}, [1, 0])}


def _environment(name: str) -> gym.Env[Any, Any]:
    if name == "mixed":
        return SymmetryWrapper(Sampled(MIXED), MIXED_MIRROR)
    return SymmetryWrapper(Sampled(VECTOR), MIRROR)


@cache
def saved(name: str) -> bytes:
    """A small agent's file, by name."""
    small: dict[str, Any] = {"policy_kwargs": {"net_arch": [3]}, "buffer_size": 1, "device": "cpu"}
    env = _environment(name)
    if name == "plain":
        model: DQN = DQN("MlpPolicy", env, **small)
    elif name == "mixed":
        model = EquivariantDQN("MultiInputPolicy", env, method="equitune", **small)
    else:
        model = EquivariantDQN("MlpPolicy", env, method="lambda", **small)
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


@cache
def _members(name: str) -> Members:
    with zipfile.ZipFile(io.BytesIO(saved(name))) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def _zipped(members: Members, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return file.getvalue()


def _saved_by_torch(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


NAMES = ["plain", "lambda", "mixed"]
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 100),
        st.sampled_from([0, -1, 10**30, 1e308, float("nan"), float("inf"), 2**63, 0.5]),
        st.sampled_from(
            [
                "",
                "<class 'torch.nn.modules.activation.Tanh'>",
                "<class 'torch.nn.Module'>",
                "<class 'torch.nn.NoSuch'>",
                "<class 'torch.no_such.X'>",
                "<class 'torch.optim.adam.Adam'>",
                "<class 'stable_baselines3.common.torch_layers.NatureCNN'>",
                "<class 'stable_baselines3.common.torch_layers.BaseFeaturesExtractor'>",
                "<class 'os.system'>",
                "Box",
                "lambda",
                "two\nlines",
                "float32",
                "int64",
                "AAAA",
            ]
        ),
        st.text(max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def _paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    inner: Any = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    found = []
    for key, part in inner:
        found += [(*above, key), *_paths(part, (*above, key))]
    return found


@cache
def _json_paths(name: str) -> list[tuple[Any, ...]]:
    paths = _paths(json.loads(_members(name)["data"]))
    # What is pickled is read nowhere but for the training frequency.
    return [path for path in paths if ":serialized:" not in path or path[0] == "train_freq"]


KEYS = [
    "policy_kwargs", "gamma", "learning_rate", "train_freq", "equirl_format", "equirl_version",
    "equirl_symmetry", "policy_class", "observation_space", "gradient_steps", "buffer_size",
    "batch_size", "n_steps",
]  # fmt: skip
POLICY_KEYS = [
    "activation_fn", "features_extractor_class", "optimizer_class", "features_extractor_kwargs",
    "net_arch", "normalize_images", "method", "gradient", "init", "canonical_score",
    "orbit_samples", "symmetry", "no_such_key", "optimizer_kwargs", "share_features_extractor",
    ":type:",
]  # fmt: skip


@st.composite
def _changed_data(draw: st.DrawFn, name: str) -> bytes:
    data = json.loads(_members(name)["data"])
    for _ in range(draw(st.integers(1, 2))):
        how = draw(st.integers(0, 4))
        if how == 0:
            data[draw(st.sampled_from(KEYS))] = draw(JSON)
        elif how == 1 and isinstance(data.get("policy_kwargs"), dict):
            data["policy_kwargs"][draw(st.sampled_from(POLICY_KEYS))] = draw(JSON)
        else:
            *above, last = draw(st.sampled_from(_json_paths(name)))
            node = data
            try:
                for key in above:
                    node = node[key]
                if how == 2:
                    del node[last]
                else:
                    node[last] = draw(JSON)
            except (KeyError, IndexError, TypeError):  # gone with the first change
                pass
    return json.dumps(data).encode()


TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "one row more": lambda w: torch.cat([w, w[:1]]) if w.dim() else w,
    "transposed": lambda w: w.T if w.dim() == 2 else w,
    "flattened": torch.flatten,
    "no dimension": lambda w: w.sum(),
    "empty": lambda w: w[:0] if w.dim() else w,
    "no columns": lambda w: w[:, :0] if w.dim() == 2 else w,
    "3 dimensions": lambda w: w[None],
    "nan": lambda w: w * torch.nan,
    "double": torch.Tensor.double,
    "half": torch.Tensor.half,
    "long": torch.Tensor.long,
    "bool": torch.Tensor.bool,
    "complex": lambda w: w.to(torch.complex64),
    "sparse": torch.Tensor.to_sparse,
    "meta": lambda w: w.to("meta"),
    "quantized": lambda w: torch.quantize_per_tensor(w.float(), 0.1, 0, torch.qint8),
    "parameter": lambda w: torch.nn.Parameter(w),
    "expanded": lambda w: torch.zeros(1).expand(2**40, 1),
    "nested": lambda w: [w],
    "number": lambda w: 1.0,
    "none": lambda w: None,
    "text": lambda w: "w",
}
LAYERS = [
    "q_net.q_net.0.weight", "q_net.q_net.2.weight", "q_net.q_net.7.weight",
    "q_net.q_net.-1.weight", "q_net.q_net.0.bias", "q_net.more", "q_net_target.q_net.0.weight",
    "q_net.features_extractor.x.weight", "q_net.features_extractor.cnn.0.weight",
    "q_net.features_extractor.linear.0.weight", "x", "q_net.symmetrized.x",
    "q_net.q_net.99999999999999999999.weight", "q_net.q_net.٣.weight",
]  # fmt: skip


@st.composite
def _changed_weights(draw: st.DrawFn, name: str) -> bytes:
    weights = torch.load(io.BytesIO(_members(name)["policy.pth"]), weights_only=True)
    for _ in range(draw(st.integers(1, 2))):
        key, how = draw(st.sampled_from(sorted(weights))), draw(st.integers(0, 4))
        if how == 0:
            del weights[key]
        elif how == 1:
            weights[draw(st.sampled_from(LAYERS))] = weights.pop(key)
        elif how == 2:
            weights[draw(st.sampled_from(LAYERS))] = torch.ones(draw(st.sampled_from([2, (2, 2)])))
        elif isinstance(weights[key], torch.Tensor):
            change = TENSORS[draw(st.sampled_from(sorted(TENSORS)))]
            # Not every change takes what an earlier one has made of it.
            with contextlib.suppress(RuntimeError, NotImplementedError):
                weights[key] = change(weights[key])
    return _saved_by_torch(weights)


PICKLES = st.sampled_from(
    [pickle.dumps(value) for value in ({}, [], 3, {"q_net.q_net.0.weight": 1}, "x" * 99, None)]
    + [_saved_by_torch(value) for value in ({}, [1], 3, None, {0: torch.ones(2, 2)}, {"a": {}})]
    + [b"", b"\x80", b"PK\x03\x04", b"cos\nsystem\n(S'false'\ntR.", b"{" * 9999, b"[" * 100_000]
    + [b"null", b"[]", b"1e999", b"NaN", b'"\\ud800"', b"\xff\xfe", b'{"a": 1, "a": 2}']
    + [b"{}", b'{"policy_kwargs": 3}', b'{"equirl_format": 99, "equirl_version": "a\\nb"}']
)  # fmt: skip


@st.composite
def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bits flipped, cut off, or bytes put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(len(changed) - 1, 0)))
        how = draw(st.integers(0, 4))
        if how <= 1 and changed:
            changed[where] ^= 1 << draw(st.integers(0, 7))
        elif how == 2:
            del changed[where:]
        elif how == 3:
            changed[where:where] = draw(st.binary(max_size=8))
        else:
            changed[where : where + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"PK\5\6"]))
    return bytes(changed)


@st.composite
def agent_files(draw: st.DrawFn) -> bytes:
    """What is in the file."""
    name, how = draw(st.sampled_from(NAMES)), draw(st.integers(0, 9))
    members = dict(_members(name))
    if how == 0:
        return draw(_damaged(saved(name)))
    if how <= 3:
        members["data"] = draw(_changed_data(name))
    elif how <= 6:
        members["policy.pth"] = draw(_changed_weights(name))
    elif how == 7:
        member = draw(st.sampled_from(["data", "policy.pth", "policy.optimizer.pth"]))
        members[member] = draw(_damaged(members[member]))
    elif how == 8:
        member = draw(st.sampled_from(["data", "policy.pth", "policy.optimizer.pth"]))
        other = draw(st.sampled_from(sorted(_members("lambda"))))
        swapped = _members(draw(st.sampled_from(NAMES))).get(other, b"")
        members[member] = draw(st.one_of(PICKLES, st.just(swapped), st.just(b"\0" * 10**6)))
    else:
        del members[draw(st.sampled_from(sorted(members)))]
    compression = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    return _zipped(members, compression)


@cache
def _environments() -> list[gym.Env[Any, Any]]:
    return [_environment("plain"), _environment("mixed")]


def read_and_build(content: bytes) -> bool:
    """Read an agent's file, build it as plain DQN and restore it: each is refused or works.

    Returns:
        Whether anything worked.
    """
    with tempfile.TemporaryDirectory() as folder, comes_to_an_end():
        path = Path(folder) / "agent.zip"
        path.write_bytes(content)
        try:
            agent = read_agent(path)
            described = [agent.is_equivariant, agent.symmetry, agent.net_arch, agent.action_space]
        except EquirlError as error:
            check_message(error)
            return False
        assert described
        env = _environments()["dict.Dict" in str(agent.data.get("observation_space"))]
        worked = False
        for act in (
            lambda: agent.build(DQN, env, buffer_size=1, device="cpu"),
            lambda: restore(agent, env, "cpu"),
            lambda: restore(agent, None, "cpu"),
        ):
            try:
                model = act()
            except EquirlError as error:
                check_message(error)
                continue
            space = model.observation_space
            model.predict(space.sample(), deterministic=True)
            worked = True
        assert sorted(Path(folder).iterdir()) == [path]
    return worked
