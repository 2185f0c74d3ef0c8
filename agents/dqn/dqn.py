"""`EquivariantDQN`: SB3's DQN that reads the symmetry off its environment."""

from __future__ import annotations

from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.dqn.policies import DQNPolicy

from equirl.agents.dqn.lean_dqn import LeanDQN
from equirl.agents.dqn.policies import (
    CanonicalScore,
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
)
from equirl.agents.native.native_policies import NativeEquivariantPolicy
from equirl.agents.saving.agent_format import check_saved_format, description
from equirl.agents.saving.saved_agent import SYMMETRIZATION, read_agent
from equirl.agents.vec_normalize import check_normalization
from equirl.envs import symmetry_of
from equirl.envs.registry import Declaration
from equirl.errors import AgentError
from equirl.symmetrize.symmetrized import Gradient, Init, Method
from equirl.symmetry import Symmetry

SelfEquivariantDQN = TypeVar("SelfEquivariantDQN", bound="EquivariantDQN")


class EquivariantDQN(LeanDQN):
    """Deep Q-learning with a Q-function that has the symmetry of the task exactly.

    Training is SB3's own up to rounding (`LeanDQN`); only the Q-network and its target differ, see
    `EquivariantDQNPolicy`. With the trivial group it is SB3's own bit for bit.

    Args:
        policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or a policy class.
        env: the environment, or its id.
        method: ``"equitune"``, ``"lambda"``, ``"equizero"`` or ``"canonical"``.
        symmetry: a `Symmetry` or generators; None finds the environment's own (`symmetry_of`).
        gradient: for `equizero` and `canonical`, ``"selected"`` or ``"straight_through"``.
        init: where `lambda` starts, ``"equitune"`` or ``"equizero"``.
        canonical_score: ``"lexicographic"`` or ``"learned"``.
        orbit_samples: for `equitune`: so many random elements of the orbit in the loss rather than
            all, which costs less and adds noise; targets and actions see the whole orbit.
        compile: training steps through `torch.compile`, with CUDA graphs on a GPU. The first ones
            take some seconds to a minute; on a CPU it needs a C++ compiler.
        bf16: the networks in training in bfloat16 (`torch.autocast`), for large ones on a GPU.
        double_q: the target of `DoubleDQN`.
        policy_kwargs: as for `DQN`; a ``symmetry`` or ``method`` in it counts before the above.
        dqn_kwargs: everything else that `stable_baselines3.DQN` takes, which checks the names.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.

    Example:
        >>> model = EquivariantDQN("MlpPolicy", "CartPole-v1", method="equizero", buffer_size=1000)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantDQNPolicy,
        "CnnPolicy": EquivariantCnnPolicy,
        "MultiInputPolicy": EquivariantMultiInputPolicy,
    }

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        method: Method = "equitune",
        *,
        symmetry: Symmetry | Declaration | None = None,
        gradient: Gradient = "selected",
        init: Init = "equitune",
        canonical_score: CanonicalScore = "lexicographic",
        orbit_samples: int | None = None,
        compile: bool = False,
        bf16: bool = False,
        double_q: bool = False,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **dqn_kwargs: Any,
    ) -> None:
        super().__init__(
            policy,
            env,
            double_q=double_q,
            policy_kwargs=policy_kwargs,
            _init_setup_model=False,
            **dqn_kwargs,
        )
        self.compile = compile
        self.bf16 = bf16
        if not _init_setup_model:  # being loaded: policy_kwargs follow
            return
        self.policy_kwargs = {
            "method": method,
            "gradient": gradient,
            "init": init,
            "canonical_score": canonical_score,
            "orbit_samples": orbit_samples,
            **self.policy_kwargs,
        }
        if "symmetry" not in self.policy_kwargs:
            assert self.env is not None
            self.policy_kwargs["symmetry"] = symmetry_of(self.env, symmetry)
        self._setup_model()

    def _setup_model(self) -> None:
        if issubclass(self.policy_class, NativeEquivariantPolicy):
            raise AgentError(
                f"{self.policy_class.__name__} is equivariant by its own layers: train it with DQN"
            )
        if not issubclass(self.policy_class, EquivariantDQNPolicy):
            raise AgentError(
                f"{self.policy_class.__name__} is a plain policy: EquivariantDQN.from_pretrained("
                "path, env, method=…) makes a saved plain agent equivariant"
            )
        for name in SYMMETRIZATION:
            if name in vars(self):  # where SB3's load puts its keywords
                raise AgentError(
                    f"load keeps the {name} in the file: EquivariantDQN.from_pretrained(path, env, "
                    f"{name}=…) builds an agent with another"
                )
        check_normalization(self.env, self.policy_kwargs.get("symmetry"))
        super()._setup_model()
        vars(self).update(description(self.symmetry))

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """See `DQN`.

        Raises:
            SymmetryError: the environment normalises observations by plain `VecNormalize`.
        """
        check_normalization(env, self.policy_kwargs.get("symmetry"))
        super().set_env(env, force_reset)

    @classmethod
    def load(
        cls: type[SelfEquivariantDQN], path: str | Path | BufferedIOBase, *args: Any, **kwargs: Any
    ) -> SelfEquivariantDQN:
        """See `DQN`, which unpickles parts of the file; needs no environment.

        Raises:
            AgentError: a later version of equirl saved the agent.
        """
        check_saved_format(path)
        return super().load(path, *args, **kwargs)

    @classmethod
    def from_pretrained(
        cls: type[SelfEquivariantDQN],
        path: str | Path,
        env: GymEnv | str,
        method: Method = "equitune",
        **kwargs: Any,
    ) -> SelfEquivariantDQN:
        """A plain SB3 DQN agent made equivariant; its weights stay as they are.

        Reads agents of every SB3 version. The network's architecture comes from the weights, the
        hyper-parameters (for training on) from the file, and ``kwargs`` count before both.

        Args:
            path: the agent's ``.zip``.
            env: the environment it was trained for, with a symmetry.
            method: see the class.
            kwargs: everything the class takes.

        Raises:
            AgentError: the file is missing, damaged, not a plain DQN agent, made for other
                spaces, or uses a class of its own, which must then be given in ``policy_kwargs``:
                nothing in the file is ever unpickled.
            SymmetryError: the environment's symmetry is not known.
        """
        agent = read_agent(path)
        if agent.is_native:
            raise AgentError(f"{path} is equivariant by its layers already: give a plain agent")
        return agent.build(cls, env, method=method, **kwargs)
