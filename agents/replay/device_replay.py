"""Replay buffers whose observations live in the memory of the device that learns from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize

from equirl.errors import AgentError


class DeviceArray:
    """A tensor that is written and indexed like the NumPy array whose place it takes.

    Args:
        like: gives shape and dtype; its content is not copied.
        device: where the tensor lives.
    """

    def __init__(self, like: np.ndarray, device: torch.device) -> None:
        dtype = torch.from_numpy(np.empty(0, like.dtype)).dtype
        self.tensor = torch.zeros(like.shape, dtype=dtype, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of its content."""
        return self.tensor.nbytes

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    def __setitem__(self, index: Any, value: np.ndarray) -> None:
        self.tensor[index] = torch.from_numpy(value).to(self.tensor.device)

    def __getitem__(self, index: tuple[Any, ...]) -> torch.Tensor:
        there = self.tensor.device
        return self.tensor[
            tuple(
                torch.as_tensor(i, device=there) if isinstance(i, np.ndarray) else i for i in index
            )
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"tensor": self.tensor.cpu(), "device": self.tensor.device.type}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Where there is no such device any more, the CPU takes its place.
        here = "cpu" if state["device"] == "cuda" and not torch.cuda.is_available() else None
        self.tensor = state["tensor"].to(here or state["device"])


class DeviceReplayBuffer(ReplayBuffer):
    """SB3's replay buffer with the observations in the device's memory, the same samples.

    Saves the way of every minibatch from the computer's memory to the GPU. There must be room for
    it: 100,000 transitions of 84 × 84 × 4 images are 5.6 GB.

    Args:
        args: as `ReplayBuffer` takes them.
        kwargs: as `ReplayBuffer` takes them.

    Raises:
        AgentError: when sampling: observations are normalised by `VecNormalize`, which needs them
            in NumPy.

    Example:
        >>> from equirl.agents import EquivariantDQN
        >>> model = EquivariantDQN(
        ...     "MlpPolicy", "CartPole-v1", buffer_size=1000, replay_buffer_class=DeviceReplayBuffer
        ... )
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Array-likes, so that nothing else in SB3's buffer needs to change.
        self.observations: Any = self._on_device(self.observations)
        if not self.optimize_memory_usage:
            self.next_observations: Any = self._on_device(self.next_observations)

    def to_torch(self, array: Any, copy: bool = True) -> torch.Tensor:
        """See `ReplayBuffer`; observations are tensors already."""
        if isinstance(array, torch.Tensor):
            return array.to(self.device)
        return super().to_torch(array, copy)

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        if env is not None:
            raise AgentError(
                "VecNormalize needs the replay buffer in NumPy: leave device_replay (and "
                "DeviceReplayBuffer) out"
            )
        return super()._get_samples(batch_inds)

    def _on_device(self, stored: Any) -> Any:
        if isinstance(stored, dict):
            return {key: self._on_device(part) for key, part in stored.items()}
        return DeviceArray(stored, get_device(self.device))


class DeviceNStepReplayBuffer(DeviceReplayBuffer, NStepReplayBuffer):
    """`DeviceReplayBuffer` with returns of ``n_steps`` steps, discounted by ``gamma``.

    Both in ``replay_buffer_kwargs``: of its own ``n_steps`` SB3 tells no buffer but its own.
    """


# SB3 has another class for samples of dicts than ReplayBufferSamples.
# In SB3 the observations of the one are an array, of the other a dict.
class DeviceDictReplayBuffer(DeviceReplayBuffer, DictReplayBuffer):  # type: ignore[misc]
    """`DeviceReplayBuffer` for dict observations."""
