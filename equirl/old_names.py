"""Module paths of earlier versions that live on in users' pickles and configurations.

One table; importing an old path gives a module that answers with what the new one holds.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OLD_NAMES = {
    "equirl.agents.callbacks": "equirl.agents.training.callbacks",
    "equirl.agents.checkpoint_callback": "equirl.agents.training.checkpoint_callback",
    "equirl.agents.device_replay": "equirl.agents.replay.device_replay",
    "equirl.agents.double_dqn": "equirl.agents.dqn.dqn",
    "equirl.agents.evaluation": "equirl.agents.training.evaluation",
    "equirl.agents.evaluation_callback": "equirl.agents.training.evaluation_callback",
    "equirl.agents.export": "equirl.agents.saving.export",
    "equirl.agents.mirror_loss": "equirl.agents.baselines.mirror_loss_dqn",
    "equirl.agents.native_policies": "equirl.agents.native.native_policies",
    "equirl.agents.policies": "equirl.agents.dqn.policies",
    "equirl.agents.restore": "equirl.agents.saving.restore",
    "equirl.agents.saved_agent": "equirl.agents.saving.saved_agent",
    "equirl.discovery": "equirl.verification.discovery",
    "equirl.envs.grid_world": "equirl.envs.boards.grid_world",
    "equirl.envs.guarded": "equirl.envs.running.guarded",
    "equirl.envs.resumable": "equirl.envs.running.resumable",
    "equirl.envs.snake": "equirl.envs.boards.snake",
    "equirl.group_actions": "equirl.actions",
    "equirl.statistical_check": "equirl.verification.statistical",
    "equirl.symmetry_json": "equirl.saved_symmetry",
    "equirl.verdicts": "equirl.verification.verdicts",
}
"""Old module path to new one. Paths that did not move need no row."""


class _OldName(Loader):
    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> None:
        return None  # Python's own kind of module

    def exec_module(self, module: ModuleType) -> None:
        new = importlib.import_module(self.new)

        def attribute(name: str) -> Any:
            try:
                return getattr(new, name)
            except AttributeError:
                raise AttributeError(f"{self.new}, once {module.__name__}, has no {name}") from None

        vars(module)["__getattr__"] = attribute


class _OldNames(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = OLD_NAMES.get(fullname)
        return None if new is None else ModuleSpec(fullname, _OldName(new))


def keep_importing() -> None:
    """Let old module paths be imported from now on. Saying it twice changes nothing."""
    if not any(isinstance(finder, _OldNames) for finder in sys.meta_path):
        sys.meta_path.append(_OldNames())
