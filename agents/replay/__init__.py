"""Replay buffers: moved along orbits, on the device, on disk."""

from equirl.agents.replay.device_replay import (
    DeviceDictReplayBuffer,
    DeviceNStepReplayBuffer,
    DeviceReplayBuffer,
)
from equirl.agents.replay.orbit_replay import (
    OrbitDictReplayBuffer,
    OrbitNStepReplayBuffer,
    OrbitReplayBuffer,
)

__all__ = [
    "DeviceDictReplayBuffer",
    "DeviceNStepReplayBuffer",
    "DeviceReplayBuffer",
    "OrbitDictReplayBuffer",
    "OrbitNStepReplayBuffer",
    "OrbitReplayBuffer",
]
