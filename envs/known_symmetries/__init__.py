"""The symmetries of environments that people already use, each next to its source of truth.

Importing this package fills the registry; it imports none of the environments.
"""

from equirl.envs.known_symmetries import almost as almost
from equirl.envs.known_symmetries import atari as atari
from equirl.envs.known_symmetries import box2d as box2d
from equirl.envs.known_symmetries import classic_control as classic_control
from equirl.envs.known_symmetries import minatar as minatar
from equirl.envs.known_symmetries import minigrid as minigrid
from equirl.envs.known_symmetries import mujoco as mujoco
from equirl.envs.known_symmetries import own as own
from equirl.envs.known_symmetries import twenty48 as twenty48
