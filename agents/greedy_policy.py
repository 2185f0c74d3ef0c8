"""`GreedyPolicy`: what an agent does when it does not explore, as one module to export."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from equirl.actions import Leaf, leaves_of

NARROW = {"int16": torch.int32, "uint16": torch.int32, "uint32": torch.int64}
"""What is calculated with instead, where ONNX or its runtime lacks operations."""


class GreedyPolicy(nn.Module):
    """Observations ↦ the actions that the agent takes when it does not explore.

    Of `DQN` (argmax_a Q_G(s, a), Q_G(s, ·)). Of every other algorithm the actions alone: those of a
    Box unscaled where the policy squashes them, and clipped to the box, as SB3's ``predict`` does.

    Args:
        model: the agent; it stays as it is.
        observation_space: of the observations as they will be given: the environment's own, or the
            same with images channel-first.
    """

    low: Tensor
    high: Tensor

    def __init__(self, model: BaseAlgorithm, observation_space: spaces.Space[Any]) -> None:
        super().__init__()
        self.policy = _copied(model.policy).to("cpu").eval()
        self.q_net = getattr(self.policy, "q_net", None)
        given, expected = leaves_of(observation_space), leaves_of(model.observation_space)
        self.channels_last = frozenset(
            mine.key for mine, theirs in zip(given, expected, strict=True) if mine != theirs
        )
        self.wider = {
            leaf.key: wider
            for leaf in given
            if (wider := _wider(observation_space, leaf)) is not None
        }
        box = model.action_space
        self.is_box = isinstance(box, spaces.Box)
        if isinstance(box, spaces.Box):
            self.register_buffer("low", torch.as_tensor(box.low))
            self.register_buffer("high", torch.as_tensor(box.high))

    def forward(self, observations: Any) -> Any:
        """Actions ``[batch]`` or ``[batch, *shape]``; of `DQN` Q-values ``[batch, actions]``, too.

        Args:
            observations: ``[batch, *shape]``, or a dict of these.
        """
        if isinstance(observations, dict):
            turned: Any = {key: self._turned(key, part) for key, part in observations.items()}
        else:
            turned = self._turned(None, observations)
        if self.q_net is not None:
            q_values = self.q_net(turned)
            return q_values.argmax(dim=1), q_values
        actions = self.policy._predict(turned, deterministic=True)
        return (self._in_box(actions) if self.is_box else actions,)

    def _in_box(self, actions: Tensor) -> Tensor:
        actions = actions.reshape(-1, *self.low.shape)
        if self.policy.squash_output:
            actions = self.low + 0.5 * (actions + 1.0) * (self.high - self.low)
        return torch.clamp(actions, self.low, self.high)

    def _turned(self, key: str | None, part: Tensor) -> Tensor:
        if key in self.wider:
            part = part.to(self.wider[key])
        return part.permute(0, 3, 1, 2) if key in self.channels_last else part


def _copied(policy: nn.Module) -> Any:
    """A copy, without the noise of gSDE, which hangs on a graph and cannot be copied."""
    noises = [getattr(part, "action_dist", None) for part in policy.modules()]
    parts = ("weights_dist", "exploration_mat", "exploration_matrices")
    left_out = [getattr(n, name) for n in noises for name in parts if hasattr(n, name)]
    return copy.deepcopy(policy, {id(part): None for part in left_out})


def _wider(space: spaces.Space[Any], leaf: Leaf) -> torch.dtype | None:
    """A dtype for numbers of one that ONNX, or its runtime, does not calculate with."""
    if leaf.dtype != "uint64":
        return NARROW.get(leaf.dtype)
    part = space if leaf.key is None else cast(spaces.Dict, space)[leaf.key]
    fits = isinstance(part, spaces.Box) and int(part.high.max()) <= torch.iinfo(torch.int64).max
    return torch.int64 if fits else torch.float64
