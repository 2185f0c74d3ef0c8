"""Equivariant deep reinforcement learning on Stable-Baselines3.

This package holds the mathematics: groups, their actions, symmetries and symmetrization. The
Gymnasium side is `equirl.envs`, the Stable-Baselines3 side `equirl.agents`.
"""

from importlib.metadata import version

from equirl.actions import GroupAction
from equirl.declaring import mirror_by_names
from equirl.groups import FiniteGroup
from equirl.old_names import keep_importing
from equirl.symmetrize import Symmetrized
from equirl.symmetry import Symmetry

__version__ = version("equirl")
keep_importing()

__all__ = [
    "FiniteGroup",
    "GroupAction",
    "Symmetrized",
    "Symmetry",
    "__version__",
    "mirror_by_names",
]
