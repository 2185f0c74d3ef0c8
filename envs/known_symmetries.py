"""The symmetries of environments that people already use, each next to its source of truth."""

from equirl.envs.grid_world import GRID_WORLD_GENERATORS
from equirl.envs.registry import register_symmetry

# gymnasium/envs/classic_control/cartpole.py: cart position, cart velocity, pole angle, pole
# angular velocity; actions push left, push right.
register_symmetry("CartPole-v1", {"mirror": ([-1, -1, -1, -1], [1, 0])})
register_symmetry("CartPole-v0", {"mirror": ([-1, -1, -1, -1], [1, 0])})

# gymnasium/envs/classic_control/acrobot.py: cos θ₁, sin θ₁, cos θ₂, sin θ₂, dθ₁/dt, dθ₂/dt;
# actions torque -1, 0, +1.
register_symmetry("Acrobot-v1", {"mirror": ([1, -1, 1, -1, -1, -1], [2, 1, 0])})

register_symmetry("equirl/GridWorld-v0", GRID_WORLD_GENERATORS)
