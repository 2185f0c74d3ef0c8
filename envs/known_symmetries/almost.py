"""Symmetries that fail in known places, of the environments in `equirl.envs.broken`.

They are declared as if they held, for methods that let go of them where they do not.
"""

from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS
from equirl.envs.known_symmetries.box2d import lunar_lander
from equirl.envs.registry import register_symmetry

for board in ("equirl/BrokenGridWorld-v0", "equirl/BrokenSnake-v0"):
    register_symmetry(board, GRID_WORLD_GENERATORS)
register_symmetry("equirl/BrokenCartPole-v0", {"mirror": ([-1, -1, -1, -1], [1, 0])})
register_symmetry("equirl/BrokenLunarLander-v0", lunar_lander)
