"""The Gymnasium side: wrappers, the registry of known symmetries, our own environments."""

import gymnasium as gym

from equirl.envs import known_symmetries as known_symmetries
from equirl.envs.known_by_id import symmetry_by_id
from equirl.envs.registry import (
    Declaration,
    declared_symmetry,
    register_symmetry,
    registered_ids,
)
from equirl.envs.symmetry_search import symmetry_of
from equirl.envs.symmetry_wrapper import SymmetryWrapper
from equirl.envs.transform_wrappers import RandomTransformWrapper, TransformWrapper

__all__ = [
    "Declaration",
    "RandomTransformWrapper",
    "SymmetryWrapper",
    "TransformWrapper",
    "declared_symmetry",
    "register_symmetry",
    "registered_ids",
    "symmetry_by_id",
    "symmetry_of",
]

gym.register(
    id="equirl/GridWorld-v0",
    entry_point="equirl.envs.boards.grid_world:GridWorld",
    max_episode_steps=100,
)
gym.register(id="equirl/Snake-v0", entry_point="equirl.envs.boards.snake:Snake")
gym.register(
    id="equirl/PointMass-v0", entry_point="equirl.envs.point_mass:PointMass", max_episode_steps=100
)
gym.register(
    id="equirl/BrokenGridWorld-v0",
    entry_point="equirl.envs.broken.grid_world:BrokenGridWorld",
    max_episode_steps=100,
)
gym.register(id="equirl/BrokenSnake-v0", entry_point="equirl.envs.broken.snake:BrokenSnake")
gym.register(
    id="equirl/BrokenCartPole-v0",
    entry_point="equirl.envs.broken.cartpole:BrokenCartPole",
    max_episode_steps=500,
)
gym.register(
    id="equirl/BrokenLunarLander-v0",
    entry_point="equirl.envs.broken.lunar_lander:BrokenLunarLander",
    max_episode_steps=1000,
)
gym.register(
    id="equirl/BrokenSpaceInvaders-v0",
    entry_point="equirl.envs.broken.space_invaders:BrokenSpaceInvaders",
)
