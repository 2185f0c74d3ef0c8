"""`ZeroShot`: a plain agent in training, made equivariant as it is at that moment."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from equirl.agents.families import FAMILIES, class_of, stock_of
from equirl.agents.vec_normalize import SymmetricVecNormalize
from equirl.errors import AgentError
from equirl.symmetrize import Method
from equirl.symmetry import Symmetry


class ZeroShot:
    """Called with an agent that has a plain policy of its library, gives that policy symmetrized.

    Its parameters are copied and nothing is trained: what equi-tuning and equizero give without
    any training (arXiv 2305.09900, section 4).

    Args:
        symmetry: of the environment.
        method: ``"equitune"``, ``"equizero"`` or ``"canonical"``.
    """

    def __init__(self, symmetry: Symmetry, method: str | Method) -> None:
        self.symmetry, self.method = symmetry, method
        self._policy: BasePolicy | None = None

    def __call__(self, model: BaseAlgorithm) -> BasePolicy:
        """The policy with the weights that the model has now.

        Raises:
            AgentError: a policy that is not one of the library's own plain ones; or an agent behind
                a `VecNormalize` whose statistics are not symmetric.
        """
        normalizer = model.get_vec_normalize_env()
        is_symmetric = normalizer is None or isinstance(normalizer, SymmetricVecNormalize)
        if normalizer is not None and normalizer.norm_obs and not is_symmetric:
            raise AgentError(
                "behind VecNormalize the orbit of what the policy sees is not that of the "
                "observation: train behind SymmetricVecNormalize, or use from_pretrained"
            )
        if self._policy is None:
            found = equivariant_policy(model)
            if found is None:
                raise AgentError(f"{type(model.policy).__name__} is not a plain policy of SB3")
            described: dict[str, Any] = model.policy._get_constructor_parameters()
            with torch.random.fork_rng(devices=[]):  # training draws what it would have drawn
                self._policy = found(**described, symmetry=self.symmetry, method=self.method)
            self._policy.to(model.device)
        self._policy.load_state_dict(model.policy.state_dict())
        self._policy.set_training_mode(False)
        return self._policy


def equivariant_policy(model: BaseAlgorithm) -> type[Any] | None:
    """What makes the policy of a plain agent equivariant; None where it is not a plain one."""
    name, stock = stock_of(type(model))
    aliases: dict[str, type[Any]] = class_of(FAMILIES[name].equivariant).policy_aliases
    return next(
        (
            aliases[alias]
            for alias, plain in stock.policy_aliases.items()
            if plain is type(model.policy)
        ),
        None,
    )
