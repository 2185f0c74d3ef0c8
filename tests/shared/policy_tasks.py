"""Policies of every variant for environments of every kind of space."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from equirl import Symmetry
from equirl.agents import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
)
from equirl.envs import SymmetryWrapper
from shared.sampled import Sampled

VARIANTS: dict[str, dict[str, Any]] = {
    "equitune": {"method": "equitune"},
    "lambda": {"method": "lambda"},
    "lambda-from-equizero": {"method": "lambda", "init": "equizero"},
    "equizero": {"method": "equizero"},
    "equizero-straight-through": {"method": "equizero", "gradient": "straight_through"},
    "canonical": {"method": "canonical"},
    "canonical-straight-through": {"method": "canonical", "gradient": "straight_through"},
    "canonical-learned": {
        "method": "canonical",
        "canonical_score": "learned",
        "gradient": "straight_through",
    },
}


class Flat(BaseFeaturesExtractor):
    """Everything side by side: SB3's convolutions take no small images."""

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))

    def forward(self, observations: Any) -> torch.Tensor:
        parts = observations.values() if isinstance(observations, dict) else [observations]
        return torch.cat([part.float().flatten(1) for part in parts], dim=1)


def dict_env() -> gym.Env[Any, Any]:
    return SymmetryWrapper(Sampled(dict_space(), 4), square_of_dicts())


def dict_space() -> spaces.Dict:
    return spaces.Dict(
        image=spaces.Box(0, 255, (36, 36, 1), np.uint8),
        vector=spaces.Box(-1, 1, (3,)),
        place=spaces.Discrete(5),
    )


@cache
def square_of_dicts() -> Symmetry:
    mirror = {"image": np.fliplr, "vector": [-1, -1, 1], "place": lambda place: 4 - place}
    turn = {
        "image": np.rot90,
        "vector": lambda v: np.array([-v[1], v[0], v[2]], np.float32),
        "place": None,
    }
    generators = {"r": (turn, [3, 0, 1, 2]), "s": (mirror, [0, 3, 2, 1])}
    return Symmetry.from_generators(dict_space(), spaces.Discrete(4), generators)


def declared(space: spaces.Space[Any], **generators: Any) -> gym.Env[Any, Any]:
    (_, permutation), *_ = generators.values()
    return SymmetryWrapper(Sampled(space, len(permutation)), generators)


ENVIRONMENTS: dict[str, tuple[Any, Any]] = {
    "cartpole": (EquivariantDQNPolicy, lambda: SymmetryWrapper(gym.make("CartPole-v1"))),
    "acrobot": (EquivariantDQNPolicy, lambda: SymmetryWrapper(gym.make("Acrobot-v1"))),
    "gridworld": (
        EquivariantDQNPolicy,
        lambda: SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=5, walls=0.2)),
    ),
    "gridworld-cnn": (
        EquivariantCnnPolicy,
        lambda: SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=36)),
    ),
    "dict": (EquivariantMultiInputPolicy, dict_env),
    "multi-binary": (
        EquivariantDQNPolicy,
        lambda: declared(spaces.MultiBinary(5), flip=(np.flip, [2, 1, 0])),
    ),
    "multi-discrete": (
        EquivariantDQNPolicy,
        lambda: declared(
            spaces.MultiDiscrete([3, 3, 4]),
            swap=(lambda s: s[[1, 0, 2]], [1, 0, 2]),
            turn=(lambda s: np.array([s[0], s[1], (s[2] + 1) % 4]), [0, 1, 2]),
        ),
    ),
    "discrete": (
        EquivariantDQNPolicy,
        lambda: declared(spaces.Discrete(6), turn=(lambda s: (s + 1) % 6, [1, 2, 0])),
    ),
}


def agent(name: str, variant: dict[str, Any], **kwargs: Any) -> tuple[DQN, Symmetry]:
    """An untrained agent with weights that differ along every orbit, and the symmetry declared."""
    policy_class, make_env = ENVIRONMENTS[name]
    env = make_env()
    policy_kwargs: dict[str, Any] = {"symmetry": env.symmetry, **variant}
    if policy_class is EquivariantCnnPolicy:
        policy_kwargs["features_extractor_kwargs"] = {"features_dim": 32}
    if policy_class is EquivariantMultiInputPolicy:
        policy_kwargs["features_extractor_kwargs"] = {"cnn_output_dim": 32}
    model = DQN(
        policy_class,
        env,
        policy_kwargs=policy_kwargs,
        **{"buffer_size": 64, "seed": 0, "device": "cpu", **kwargs},
    )
    stir(model)
    return model, env.symmetry


def stir(model: DQN) -> None:
    """Moves a learned weighting away from where it starts: weights between the extremes."""
    weighting = model.q_net.symmetrized.weighting
    if weighting is not None:
        with torch.no_grad():
            weighting.asinh_beta += 0.5
            weighting.h[-1].weight.uniform_(-3, 3)
