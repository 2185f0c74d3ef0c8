"""The symmetries of environments that people already use, each next to its source of truth.

Importing this package fills the registry; it imports none of the environments.
"""

from equirl.envs.known_symmetries import classic_control as classic_control
from equirl.envs.known_symmetries import own as own
