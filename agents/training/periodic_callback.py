"""`PeriodicCallback`: something done every so many environment steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class PeriodicCallback(BaseCallback):
    """Does something whenever that many environment steps have been taken since the last time.

    Args:
        every: environment steps between two times; training that goes on counts anew.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self._next = every
        self._goes_on = False

    def _init_callback(self) -> None:
        following = self.model.num_timesteps + self.every
        # What goes on may be asked to do it more often than before.
        self._next = min(self._next, following) if self._goes_on else following
        self._goes_on = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"next": self._next}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on, in the next `learn`, from such a state."""
        self._next, self._goes_on = state["next"], True

    def _on_step(self) -> bool:
        if self.num_timesteps < self._next:
            return True
        self._next = self.num_timesteps + self.every
        return self._on_time()

    @abstractmethod
    def _on_time(self) -> bool:
        """What is done; False stops the training."""


class RolloutLogCallback(BaseCallback):
    """Writes SB3's log of an on-policy algorithm after every so many rollouts.

    SB3 counts rollouts within one call of `learn`; this counts those before a checkpoint, too.

    Args:
        every: rollouts between two entries.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self._rollouts = 0

    def state(self) -> dict[str, Any]:
        """See `PeriodicCallback`."""
        return {"rollouts": self._rollouts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `PeriodicCallback`."""
        self._rollouts = state["rollouts"]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        if self._rollouts % self.every == 0:
            model: Any = self.model
            model.dump_logs(self._rollouts)
