"""Which classes train each algorithm: the stock one, the equivariant one, and the baselines."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from equirl.errors import AgentError
from equirl.symmetrize import METHODS as SYMMETRIZING


@dataclass(frozen=True)
class Family:
    """The classes of one algorithm, each as ``module:Class``, imported once it is asked for.

    Args:
        stock: of SB3 or sb3-contrib; for ``plain``, and with the buffer below for ``augment``.
        equivariant: for the methods that symmetrize.
        mirror_loss: the stock one with a penalty on asymmetry; None where there is none.
        buffer: of orbits, by kind of observations and returns.
        is_on_policy: whether the buffer is of rollouts, not of replay.
        others: further methods that the algorithm has.
    """

    stock: str
    equivariant: str
    mirror_loss: str | None
    buffer: dict[str, str]
    is_on_policy: bool = False
    others: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The names that ``method=`` takes."""
        penalty = () if self.mirror_loss is None else ("mirror_loss",)
        return [*SYMMETRIZING, *self.others, *penalty, "augment", "plain"]


REPLAY = {
    "one step": "equirl.agents:OrbitReplayBuffer",
    "n steps": "equirl.agents:OrbitNStepReplayBuffer",
    "dicts": "equirl.agents:OrbitDictReplayBuffer",
}
ROLLOUTS = {
    "one step": "equirl.agents:OrbitRolloutBuffer",
    "dicts": "equirl.agents:OrbitDictRolloutBuffer",
}

CONTRIB = "sb3_contrib"

FAMILIES: dict[str, Family] = {
    "dqn": Family(
        "stable_baselines3:DQN",
        "equirl.agents:EquivariantDQN",
        "equirl.agents:MirrorLossDQN",
        REPLAY,
        others=("native",),
    ),
    "ppo": Family(
        "stable_baselines3:PPO",
        "equirl.agents:EquivariantPPO",
        "equirl.agents:MirrorLossPPO",
        ROLLOUTS,
        is_on_policy=True,
    ),
    "a2c": Family(
        "stable_baselines3:A2C",
        "equirl.agents:EquivariantA2C",
        "equirl.agents:MirrorLossA2C",
        ROLLOUTS,
        is_on_policy=True,
    ),
    "sac": Family(
        "stable_baselines3:SAC",
        "equirl.agents:EquivariantSAC",
        "equirl.agents:MirrorLossSAC",
        REPLAY,
    ),
    "td3": Family(
        "stable_baselines3:TD3",
        "equirl.agents:EquivariantTD3",
        "equirl.agents:MirrorLossTD3",
        REPLAY,
    ),
    "ddpg": Family("stable_baselines3:DDPG", "equirl.agents:EquivariantDDPG", None, REPLAY),
    "trpo": Family(
        "sb3_contrib:TRPO", "equirl.agents:EquivariantTRPO", None, ROLLOUTS, is_on_policy=True
    ),
    "maskable_ppo": Family(
        "sb3_contrib:MaskablePPO",
        "equirl.agents:EquivariantMaskablePPO",
        None,
        {},
        True,
    ),
    "qrdqn": Family("sb3_contrib:QRDQN", "equirl.agents:EquivariantQRDQN", None, REPLAY),
    "tqc": Family("sb3_contrib:TQC", "equirl.agents:EquivariantTQC", None, REPLAY),
}
"""By algorithm, as files of agents and ``algorithm=`` name it."""


LIBRARIES = ("stable_baselines3", CONTRIB)


def stock_of(cls: type[Any]) -> tuple[str, type[Any]]:
    """The algorithm that a class is of, by its name in `FAMILIES`, and the library's class of it.

    Raises:
        AgentError: of none of these.
    """
    # By module and name, as sb3-contrib need not be installed. DDPG is a TD3: the first counts.
    known = {one.stock.partition(":")[2]: name for name, one in FAMILIES.items()}
    for base in cls.__mro__:
        if base.__name__ in known and base.__module__.split(".")[0] in LIBRARIES:
            return known[base.__name__], base
    raise AgentError(f"{cls.__name__} is not of an algorithm that equirl knows")


def class_of(reference: str) -> Any:
    """The class that ``module:Class`` names.

    Raises:
        AgentError: there is none, or sb3-contrib, which it is of, is not installed.
    """
    module, _, name = reference.partition(":")
    if module == CONTRIB and importlib.util.find_spec(CONTRIB) is None:
        raise AgentError(f'{name} needs pip install "equirl[contrib]"')
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise AgentError(f"{module} has no {name}")
    return found
