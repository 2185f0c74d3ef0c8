"""Equivariant deep reinforcement learning on Stable-Baselines3.

This package holds the mathematics: groups, their actions, symmetries and symmetrization. The
Gymnasium side is `equirl.envs`, the Stable-Baselines3 side `equirl.agents`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from equirl.old_names import keep_importing

if TYPE_CHECKING:
    from equirl.actions import GroupAction
    from equirl.declaring import mirror_by_names
    from equirl.groups import FiniteGroup
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

_HOMES = {
    "FiniteGroup": "equirl.groups",
    "GroupAction": "equirl.actions",
    "Symmetrized": "equirl.symmetrize",
    "Symmetry": "equirl.symmetry",
    "mirror_by_names": "equirl.declaring",
}
"""Where the public names live: imported on first use, as torch takes a second (PEP 562)."""

if not TYPE_CHECKING:  # a type checker is to see the names above and no others

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'equirl' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
