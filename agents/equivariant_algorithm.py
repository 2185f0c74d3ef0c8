"""What every equivariant algorithm shares: it reads the symmetry off its environment."""

from __future__ import annotations

import warnings
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv

from equirl.agents.policy_spaces import check_policy_spaces
from equirl.agents.saving.agent_format import check_saved_format, description
from equirl.agents.saving.saved_agent import read_agent
from equirl.agents.saving.saved_description import SYMMETRIZATION
from equirl.agents.symmetrized_network import (
    SymmetrizationArguments,
    spelled_policy_kwargs,
)
from equirl.agents.training.divergence import divergence_is_named
from equirl.agents.vec_normalize import check_normalization
from equirl.envs import Declaration, symmetry_of
from equirl.errors import AgentError, EquirlWarning, SymmetryError
from equirl.symmetrize import Method
from equirl.symmetry import Symmetry

SomeAlgorithm = TypeVar("SomeAlgorithm", bound="EquivariantAlgorithm")


class EquivariantAlgorithm(BaseAlgorithm):
    """An algorithm of SB3 with a policy that has the symmetry of the task exactly.

    Stands before the SB3 class that it makes equivariant: ``class EquivariantPPO(
    EquivariantAlgorithm, PPO)``. With the trivial group training is that class's own bit for bit.

    Args:
        policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or a policy class.
        env: the environment, or its id.
        method: ``"equitune"``, ``"lambda"``, ``"equizero"``, ``"canonical"``, ``"relaxed"``, or a
            `Method`; an option that it does not heed is refused.
        symmetry: a `Symmetry` or generators; None finds the environment's own (`symmetry_of`).
        gradient: for `equizero` and `canonical`, ``"selected"`` or ``"straight_through"``.
        init: where `lambda` starts, ``"equitune"`` or ``"equizero"``.
        inner: of `relaxed`, the method where the symmetry holds.
        per_action: of `relaxed`: whether each action has an α of its own. In `EquivariantDQN`, the
            only one that can, it is ``"auto"`` by default: as long as that predicts better.
        canonical_score: ``"lexicographic"`` or ``"learned"``.
        orbit_samples: for `equitune`: so many random elements of the orbit in the loss rather than
            all, which costs less and adds noise; targets and actions see the whole orbit.
        shortcuts: whether to act, and DQN also to train, by the quicker code of
            `equirl.agents.shortcuts` where it gives the same numbers up to rounding.
        policy_kwargs: as for the SB3 class; a ``symmetry`` or ``method`` in it counts before the
            above.
        kwargs: everything else that the SB3 class takes, which checks the names.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.
        MethodError: the method is not known, or an option of it is not one.
    """

    shortcuts: bool = True

    equivariant_policy: ClassVar[type[BasePolicy]]
    """What the policies of the algorithm are derived from."""

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str,
        method: str | Method = "equitune",
        *,
        symmetry: Symmetry | Declaration | None = None,
        gradient: str | None = None,
        init: str | None = None,
        inner: str | None = None,
        per_action: bool | str | None = None,
        canonical_score: str | None = None,
        orbit_samples: int | None = None,
        shortcuts: bool = True,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        self.shortcuts = shortcuts
        arguments: dict[str, Any] = {"policy_kwargs": policy_kwargs, "_init_setup_model": False}
        super().__init__(policy, env, **arguments, **kwargs)
        if not _init_setup_model:  # being loaded: policy_kwargs follow
            return
        if self.env is None:
            raise AgentError(
                f"an {type(self).__name__} is built for an environment, got None: give one, or its "
                "id (load and predict go without)"
            )
        check_policy_spaces(self.observation_space, self.action_space)
        self.policy_kwargs = spelled_policy_kwargs(
            method,
            self.policy_kwargs,
            self.equivariant_policy,
            gradient=gradient,
            init=init,
            inner=inner,
            per_action=per_action,
            canonical_score=canonical_score,
            orbit_samples=orbit_samples,
        )
        if "symmetry" not in self.policy_kwargs:
            self.policy_kwargs["symmetry"] = symmetry_of(self.env, symmetry)
        self._setup_model()

    @property
    def symmetry(self) -> Symmetry:
        """The symmetry of the policy, as declared on the environment."""
        policy: Any = self.policy
        symmetry: Symmetry = policy.symmetry
        return symmetry

    def _setup_model(self) -> None:
        name = type(self).__name__
        if not issubclass(self.policy_class, self.equivariant_policy):
            raise AgentError(
                f"{self.policy_class.__name__} is a plain policy: {name}.from_pretrained("
                "path, env, method=…) makes a saved plain agent equivariant"
            )
        for option in SYMMETRIZATION:
            if option in vars(self):  # where SB3's load puts its keywords
                raise AgentError(
                    f"load keeps the {option} in the file: {name}.from_pretrained(path, env, "
                    f"{option}=…) builds an agent with another"
                )
        check_normalization(self.env, self.policy_kwargs.get("symmetry"))
        parent: Any = super()  # SB3's own method is abstract in the base class only
        parent._setup_model()
        for network in self.policy.modules():
            if isinstance(network, SymmetrizationArguments):
                network.shortcuts = self.shortcuts
        vars(self).update(description(self.symmetry))

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """See `BaseAlgorithm`.

        Raises:
            SymmetryError: the environment normalises observations by plain `VecNormalize`.

        Warns:
            EquirlWarning: the environment has another symmetry than the agent, which keeps its own.
        """
        check_normalization(env, self.policy_kwargs.get("symmetry"))
        found = _found(env)
        if found != _found(self.env):  # otherwise the agent was given another to begin with
            self._compare_symmetry(found)
        super().set_env(env, force_reset)

    def _compare_symmetry(self, found: Symmetry | None) -> None:
        if found is None or found == self.symmetry or self.symmetry.group.order == 1:
            return
        theirs, ours = (", ".join(one.group.names[1:]) for one in (found, self.symmetry))
        warnings.warn(
            f"the environment has another symmetry ({theirs}) than the agent, which keeps its own "
            f"({ours}): build a new agent where the environment's is meant",
            EquirlWarning,
            stacklevel=3,
        )

    def learn(self: SomeAlgorithm, *args: Any, **kwargs: Any) -> SomeAlgorithm:
        """See `BaseAlgorithm`.

        Raises:
            RunError: training diverged: a parameter is not finite, as after rewards that are NaN.
        """
        following: Any = super()
        with divergence_is_named(self):
            learned: SomeAlgorithm = following.learn(*args, **kwargs)
        return learned

    @classmethod
    def load(
        cls: type[SomeAlgorithm], path: str | Path | BufferedIOBase, *args: Any, **kwargs: Any
    ) -> SomeAlgorithm:
        """See `BaseAlgorithm`, which unpickles parts of the file; needs no environment.

        Raises:
            AgentError: a later version of equirl saved the agent.

        Warns:
            EquirlWarning: see `set_env`.
        """
        check_saved_format(path)
        if kwargs.get("policy_kwargs") is not None:
            saved, *_ = load_from_zip_file(path, custom_objects=kwargs.get("custom_objects"))
            if hasattr(path, "seek"):
                path.seek(0)
            # SB3 compares them with those in the file, where the symmetry and the method stand too.
            found = (saved or {}).get("policy_kwargs", {})
            ours = {name: found[name] for name in SYMMETRIZATION if name in found}
            kwargs["policy_kwargs"] = ours | kwargs["policy_kwargs"]
        model = super().load(path, *args, **kwargs)
        model._compare_symmetry(_found(model.env))
        return model

    @classmethod
    def from_pretrained(
        cls: type[SomeAlgorithm],
        path: str | Path,
        env: GymEnv | str,
        method: str | Method = "equitune",
        **kwargs: Any,
    ) -> SomeAlgorithm:
        """A plain SB3 agent of this algorithm made equivariant; its weights stay as they are.

        Reads agents of every SB3 version. The network's architecture comes from the weights, the
        hyper-parameters (for training on) from the file, and ``kwargs`` count before both.

        Args:
            path: the agent's ``.zip``.
            env: the environment it was trained for, with a symmetry.
            method: see the class.
            kwargs: everything the class takes.

        Raises:
            AgentError: the file is missing, damaged, not a plain agent of this algorithm, made for
                other spaces, or uses a class of its own, which must then be given in
                ``policy_kwargs``: nothing in the file is ever unpickled.
            SymmetryError: the environment's symmetry is not known.
        """
        agent = read_agent(path)
        if agent.is_native:
            raise AgentError(f"{path} is equivariant by its layers already: give a plain agent")
        return agent.build(cls, env, method=method, **kwargs)


def _found(env: GymEnv | None) -> Symmetry | None:
    try:
        return None if env is None else symmetry_of(env)
    except SymmetryError:
        return None
