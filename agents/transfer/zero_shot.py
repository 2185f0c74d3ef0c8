"""`ZeroShot`: a plain agent in training, made equivariant as it is at that moment."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.dqn import EquivariantDQNPolicy
from equirl.symmetrize import Method
from equirl.symmetry import Symmetry


class ZeroShot:
    """Called with an agent that has a plain `DQNPolicy`, gives that policy symmetrized.

    Its parameters are copied and nothing is trained: what equi-tuning and equizero give without
    any training (arXiv 2305.09900, section 4).

    Args:
        symmetry: of the environment.
        method: ``"equitune"``, ``"equizero"`` or ``"canonical"``.
    """

    def __init__(self, symmetry: Symmetry, method: str | Method) -> None:
        self.symmetry, self.method = symmetry, method
        self._policy: EquivariantDQNPolicy | None = None

    def __call__(self, model: BaseAlgorithm) -> EquivariantDQNPolicy:
        if self._policy is None:
            described: dict[str, Any] = model.policy._get_constructor_parameters()
            with torch.random.fork_rng(devices=[]):  # training draws what it would have drawn
                self._policy = EquivariantDQNPolicy(
                    **described, symmetry=self.symmetry, method=self.method
                ).to(model.device)
        self._policy.load_state_dict(model.policy.state_dict())
        self._policy.set_training_mode(False)
        return self._policy
