"""Symmetries that fail in known places, of the environments in `equirl.envs.broken`.

They are declared as if they held, for methods that let go of them where they do not. State maps
are those of the environments that they were made of, so that a check finds the places exactly.
"""

from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS
from equirl.envs.known_symmetries.box2d import lunar_lander, mirror_lunar_lander
from equirl.envs.known_symmetries.classic_control import mirror_cartpole
from equirl.envs.known_symmetries.minatar import (
    mirror_space_invaders,
    mirror_space_invaders_image,
)
from equirl.envs.known_symmetries.own import GRID_WORLD_STATE_MAPS, SNAKE_STATE_MAPS
from equirl.envs.registry import register_symmetry

register_symmetry("equirl/BrokenGridWorld-v0", GRID_WORLD_GENERATORS, GRID_WORLD_STATE_MAPS)
register_symmetry("equirl/BrokenSnake-v0", GRID_WORLD_GENERATORS, SNAKE_STATE_MAPS)
register_symmetry(
    "equirl/BrokenCartPole-v0",
    {"mirror": ([-1, -1, -1, -1], [1, 0])},
    {"mirror": mirror_cartpole},
)
register_symmetry(
    "equirl/BrokenLunarLander-v0",
    lunar_lander,
    {"mirror": mirror_lunar_lander},
    tolerance=5e-3,
)
register_symmetry(
    "equirl/BrokenSpaceInvaders-v0",
    {"mirror": (mirror_space_invaders_image, [0, 2, 1, 3])},
    {"mirror": mirror_space_invaders},
)
