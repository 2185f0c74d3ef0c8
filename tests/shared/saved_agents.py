"""Plain agents of many architectures, saved to a file."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from equirl.envs import SymmetryWrapper
from shared.sampled import Sampled


class Doubled(BaseFeaturesExtractor):
    """A features extractor of the user's own."""

    def __init__(self, observation_space: spaces.Space[Any], times: float = 2.0) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))
        self.times = times

    def forward(self, observations: Tensor) -> Tensor:
        return self.times * observations.flatten(1)


class Cube(nn.Module):
    """An activation of the user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x**3


VECTOR = spaces.Box(-1, 1, (4,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
MIXED = spaces.Dict(image=IMAGE, vector=spaces.Box(-1, 1, (3,)))
MIRRORS: dict[str, Any] = {
    "vector": (np.negative, [1, 0]),
    "image": (np.fliplr, [1, 0]),
    "mixed": ({"image": np.fliplr, "vector": [-1, 1, 1]}, [1, 0]),
}
SAVED: dict[str, tuple[str, str, spaces.Space[Any], dict[str, Any]]] = {
    "default": ("vector", "MlpPolicy", VECTOR, {}),
    "one-layer": ("vector", "MlpPolicy", VECTOR, {"net_arch": [24]}),
    "no-hidden-layer": ("vector", "MlpPolicy", VECTOR, {"net_arch": []}),
    "three-layers": ("vector", "MlpPolicy", VECTOR, {"net_arch": [16, 8, 12]}),
    "tanh": ("vector", "MlpPolicy", VECTOR, {"activation_fn": nn.Tanh, "net_arch": [16]}),
    "activation-elsewhere": ("vector", "MlpPolicy", VECTOR, {"activation_fn": nn.Identity}),
    "own-activation": ("vector", "MlpPolicy", VECTOR, {"activation_fn": Cube}),
    "own-extractor": (
        "vector",
        "MlpPolicy",
        VECTOR,
        {"features_extractor_class": Doubled, "features_extractor_kwargs": {"times": 3.0}},
    ),
    "images": ("image", "CnnPolicy", IMAGE, {"features_extractor_kwargs": {"features_dim": 24}}),
    "images-and-layers": (
        "image",
        "CnnPolicy",
        IMAGE,
        {
            "features_extractor_kwargs": {"features_dim": 24},
            "net_arch": [12],
            "activation_fn": nn.ELU,
        },
    ),
    "images-from-0-to-255": (
        "image",
        "CnnPolicy",
        IMAGE,
        {
            "normalize_images": False,
            "features_extractor_kwargs": {"features_dim": 24, "normalized_image": True},
            "activation_fn": nn.Tanh,
            "net_arch": [12],
        },
    ),
    "dict": (
        "mixed",
        "MultiInputPolicy",
        MIXED,
        {"features_extractor_kwargs": {"cnn_output_dim": 24}, "activation_fn": nn.Tanh},
    ),
}


OWN = {"own-activation", "own-extractor"}
"""Saved with classes that only a pickle holds."""


def saved(name: str, folder: Path) -> tuple[DQN, Path, Any]:
    """A plain agent with random weights, its file, and its environment with a mirror."""
    mirror, policy, space, policy_kwargs = SAVED[name]
    env = SymmetryWrapper(Sampled(space), {"mirror": MIRRORS[mirror]})
    model = DQN(
        policy,
        env,
        policy_kwargs=policy_kwargs,
        buffer_size=50,
        gamma=0.9,
        batch_size=17,
        learning_rate=3e-3,
        device="cpu",
    )
    model.save(folder / "agent.zip")
    return model, folder / "agent.zip", env


def rewritten(path: Path, compression: int = zipfile.ZIP_STORED, **changed: bytes | None) -> bytes:
    """The bytes of an agent with other contents (``policy_pth``, ``data``), None for left out."""
    file = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            content = changed.get(name.replace(".", "_"), old.read(name))
            if content is not None:
                new.writestr(name, content)
    return file.getvalue()


def trapped(path: Path, target: Path, witness: Path) -> Path:
    """A copy of the agent in which every pickle creates a file."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    trap = base64.b64encode(cloudpickle.dumps(Trap())).decode()
    data = json.loads(zipfile.ZipFile(path).read("data"))
    for entry in data.values():
        if isinstance(entry, dict) and ":serialized:" in entry:
            entry[":serialized:"] = trap
    assert json.dumps(data).count(trap) > 5
    target.write_bytes(rewritten(path, data=json.dumps(data).encode()))
    return target
