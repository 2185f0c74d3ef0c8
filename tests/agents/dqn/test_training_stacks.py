"""The symmetry of a game's raw observations, seen at the Q-values behind all that training uses.

Each configuration is built as `equirl train` builds it. Then one copy of the environment has its
raw observations moved by NumPy where they come out of the simulator, everything behind them being
real, and the Q-values of both copies are compared.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import (
    DtypeObservation,
    FrameStackObservation,
    RescaleObservation,
    ReshapeObservation,
)
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

import equirl.envs.known_symmetries as known
from equirl.agents import EquivariantDQN, SmallCnn
from equirl.commands.composition import completed
from equirl.commands.environments import environment_maker
from equirl.commands.training.model import build_model
from equirl.configs import schema
from equirl.envs import SymmetryWrapper

Move = Callable[[Any], Any]
STEPS = 12


@dataclass(frozen=True)
class Game:
    """How to move what the simulator shows, and where every action goes.

    Args:
        moves: by generator: raw observations, and the action that each action becomes.
        needs: by module, the extra that brings it.
        behind: the wrapper whose observations are the raw ones; None for the simulator itself.
    """

    moves: dict[str, tuple[Move, list[int]]]
    needs: dict[str, str]
    behind: str | None = None


def mirror_lander(s: np.ndarray) -> np.ndarray:
    return (s * np.array([-1, 1, -1, 1, -1, -1, 1, 1], s.dtype))[[0, 1, 2, 3, 4, 5, 7, 6]]


def flip_field(frame: np.ndarray) -> np.ndarray:
    """Pong upside down between its walls; the score above stays."""
    flipped = frame.copy()
    flipped[34:194] = frame[34:194][::-1]
    return flipped


def mirror_egocentric(observation: dict[str, Any]) -> dict[str, Any]:
    return {**observation, "image": observation["image"][::-1].copy()}


def mirror_full_view(grid: np.ndarray) -> np.ndarray:
    """Columns reversed; facing right (17) and facing left (19) change places."""
    channels = np.arange(22)
    channels[[17, 19]] = [19, 17]
    return grid[::-1][..., channels]


def turn_full_view(grid: np.ndarray) -> np.ndarray:
    """Clockwise on screen: right (17) becomes down (18), down left, left up, and up right."""
    channels = np.arange(22)
    channels[[18, 19, 20, 17]] = [17, 18, 19, 20]
    return np.rot90(grid)[..., channels]


SQUARE: dict[str, tuple[Move, list[int]]] = {
    "r": (np.rot90, [3, 0, 1, 2]),
    "s": (np.fliplr, [0, 3, 2, 1]),
}
GAMES = {
    "cartpole": Game({"mirror": (np.negative, [1, 0])}, {}),
    "lunarlander": Game({"mirror": (mirror_lander, [0, 3, 2, 1])}, {"Box2D": "box2d"}),
    "twenty48": Game(SQUARE, {"gymnasium_2048": "twenty48"}),
    "minatar_breakout": Game({"mirror": (np.fliplr, [0, 2, 1])}, {"minatar": "minatar"}),
    "snake": Game(SQUARE, {}),
    "minigrid_empty": Game(
        {"mirror": (mirror_egocentric, [1, 0, 2, 3, 4, 5, 6])}, {"minigrid": "minigrid"}
    ),
    "pong": Game({"flip": (flip_field, [0, 1, 3, 2, 5, 4])}, {"ale_py": "atari", "cv2": "atari"}),
}
FULL_VIEW = Game(
    {
        "mirror": (mirror_full_view, [1, 0, 2, 3, 4, 5, 6]),
        "turn": (turn_full_view, [0, 1, 2, 3, 4, 5, 6]),
    },
    {"minigrid": "minigrid"},
    behind="FullView",
)


def need(game: Game) -> None:
    """Skip, saying what to install."""
    for module, extra in game.needs.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(module)
        except ImportError:
            pytest.skip(f'needs {module}: pip install "equirl[{extra}]"')


class Moved(gym.ObservationWrapper[Any, Any, Any]):
    """The same simulator, its observations moved by a function."""

    def __init__(self, env: gym.Env[Any, Any], move: Move) -> None:
        super().__init__(env)
        self.move = move

    def observation(self, observation: Any) -> Any:
        return self.move(observation)


def with_raw_observations_moved(
    env: gym.Env[Any, Any], move: Move, behind: str | None
) -> gym.Env[Any, Any]:
    layer: Any = env
    while layer.env is not layer.unwrapped and type(layer.env).__name__ != behind:
        layer = layer.env
    assert behind is None or type(layer.env).__name__ == behind
    layer.env = Moved(layer.env, move)
    return env


def trajectory(make: Callable[[], Any]) -> list[Any]:
    """Observations as the policy gets them: under one seed the simulator does the same."""
    envs: Any = EquivariantDQN._wrap_env(make())
    envs.seed(3)
    observations = [envs.reset().copy()]
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        actions = np.array([random.integers(envs.action_space.n)])
        observations.append(envs.step(actions)[0].copy())
    envs.close()
    return observations


def q_values(model: Any, observations: list[Any]) -> np.ndarray:
    tensor, _ = model.policy.obs_to_tensor(np.concatenate(observations))
    with torch.no_grad():
        values: np.ndarray = model.q_net(tensor).numpy()
    return values


def assert_symmetric(
    game: Game, model: EquivariantDQN, make: Callable[[], Any], stack: Callable[[Any], Any]
) -> None:
    """After 200 training steps, Q(gs, ga) = Q(s, a) for raw observations s."""
    model.learn(200)
    assert model.num_timesteps == 200
    assert model._n_updates > 0
    observations = trajectory(lambda: stack(make))
    here = q_values(model, observations)
    assert np.ptp(here, axis=1).max() > 1e-3
    for move, permutation in game.moves.values():

        def make_moved(move: Move = move) -> Any:
            return with_raw_observations_moved(make(), move, game.behind)

        moved = trajectory(partial(stack, make_moved))
        there = q_values(model, moved)
        np.testing.assert_allclose(there[:, permutation], here, rtol=0, atol=1e-5)
        assert not np.array_equal(moved, observations)


SMALL = [
    "algorithm=dqn",
    "algorithm.buffer_size=300",
    "algorithm.learning_starts=100",
    "algorithm.train_freq=50",
    "algorithm.gradient_steps=1",
    "algorithm.batch_size=4",
    "algorithm.net_arch=[16]",
    "device=cpu",
]


@pytest.mark.parametrize("name", GAMES)
def test_q_values_have_the_symmetry_of_raw_observations_behind_all_that_training_uses(
    name: str,
) -> None:
    need(GAMES[name])
    schema.register_schemas()
    with initialize_config_module("equirl.configs", version_base="1.3"):
        config = completed("train", compose("train", [f"env={name}", "method=equitune", *SMALL]))
        settings: Any = OmegaConf.to_object(config)
    GlobalHydra.instance().clear()
    make, symmetry = environment_maker(settings.env)
    assert symmetry is not None
    assert set(GAMES[name].moves) == {symmetry.group.names[g] for g in symmetry.group.generators}
    model: Any = build_model(settings, DummyVecEnv([make]), symmetry)
    assert_symmetric(GAMES[name], model, make, lambda make: DummyVecEnv([make]))


def small_model(envs: Any, policy: str = "MlpPolicy", **policy_kwargs: Any) -> EquivariantDQN:
    return EquivariantDQN(
        policy,
        envs,
        buffer_size=300,
        learning_starts=100,
        train_freq=50,
        batch_size=4,
        policy_kwargs={"net_arch": [16], **policy_kwargs},
        device="cpu",
        seed=0,
    )


def small_pong() -> Any:
    env = known.atari.crop_pong(gym.make("PongNoFrameskip-v4"))
    return SymmetryWrapper(AtariWrapper(env), known.atari.pong)


def stacked_as_channels(make: Callable[[], Any]) -> Any:
    return VecFrameStack(DummyVecEnv([make]), 4)


def stacked_inside(make: Callable[[], Any]) -> Any:
    def stacked() -> Any:
        return ReshapeObservation(FrameStackObservation(make(), 4), (4, 84, 84))

    return DummyVecEnv([stacked])


@pytest.mark.parametrize("stack", [stacked_as_channels, stacked_inside])
def test_four_frames_of_pong_have_symmetric_q_values(stack: Callable[[Any], Any]) -> None:
    need(GAMES["pong"])
    gym.register_envs(importlib.import_module("ale_py"))
    model = small_model(
        stack(small_pong), "CnnPolicy", features_extractor_kwargs={"features_dim": 16}
    )
    assert model.observation_space.shape == (4, 84, 84)
    assert model.symmetry.group.order == 2
    assert_symmetric(GAMES["pong"], model, small_pong, stack)


def make_minatar_image() -> Any:
    # SB3 turns images to channels first only where they are uint8 from 0 to 255.
    return RescaleObservation(DtypeObservation(gym.make("MinAtar/Breakout-v1"), np.uint8), 0, 255)


def test_minatar_as_an_image_has_symmetric_q_values_through_a_small_cnn() -> None:
    need(GAMES["minatar_breakout"])
    if "MinAtar/Breakout-v1" not in gym.registry:
        importlib.import_module("minatar.gym").register_envs()
    model = small_model(
        DummyVecEnv([make_minatar_image]), "CnnPolicy", features_extractor_class=SmallCnn
    )
    assert model.observation_space.shape == (4, 10, 10)
    assert_symmetric(
        GAMES["minatar_breakout"], model, make_minatar_image, lambda make: DummyVecEnv([make])
    )


def make_full_view() -> Any:
    env = known.minigrid.FullView(gym.make("MiniGrid-DoorKey-5x5-v0"))
    return SymmetryWrapper(env)


def test_minigrid_seen_whole_has_symmetric_q_values() -> None:
    need(FULL_VIEW)
    model = small_model(DummyVecEnv([make_full_view]))
    assert model.symmetry.group.order == 8
    assert_symmetric(FULL_VIEW, model, make_full_view, lambda make: DummyVecEnv([make]))
