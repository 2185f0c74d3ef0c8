"""The environments of this package."""

from equirl.envs.grid_world import GRID_WORLD_GENERATORS
from equirl.envs.registry import register_symmetry

register_symmetry("equirl/GridWorld-v0", GRID_WORLD_GENERATORS)
