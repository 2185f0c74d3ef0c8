"""What is in the zip of a saved SB3 agent of any version, read and never run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gymnasium import spaces
from torch import Tensor

from equirl.agents.saving.architecture import Architecture, read_architecture
from equirl.agents.saving.reading.library_classes import library_class
from equirl.agents.saving.reading.saved_normalisation import SavedNormalisation
from equirl.agents.saving.reading.saved_spaces import SavedSpace, read_space
from equirl.errors import AgentError, SymmetryError, UntrustedError
from equirl.saved_symmetry import from_json
from equirl.shown import reason, shortened
from equirl.symmetrize import OPTIONS
from equirl.symmetry import Symmetry

NATIVE = "equirl.agents.native.native_policies"
"""The module of the policies that are equivariant by their layers, as a file names it."""

OBSOLETE = ("device",)
"""Arguments that policies of earlier SB3 versions had."""

SYMMETRIZATION = ("symmetry", "method", *OPTIONS)
"""What belongs to one of our policies and not to the network inside it."""


@dataclass(frozen=True)
class SavedDescription:
    """The weights of a saved agent, and what of its description can be read without running it.

    Args:
        path: where it was read from.
        data: the JSON description that SB3 writes.
        weights: the state dict of its policy, as the current SB3 lays it out.
        training: the states of its optimisers and what else it trains on with (`Parts`).
        normalisation: the `VecNormalize` it was trained behind, where that is part of its network
            (`equirl.agents.saving.normalised`).
        normalising: policy arguments that make it so.
        in_memory: whether it is a model that was given, and ``path`` only names it.
    """

    path: Path
    data: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    normalisation: SavedNormalisation | None = None
    normalising: dict[str, Any] = field(default_factory=dict)
    in_memory: bool = False

    @property
    def is_equivariant(self) -> bool:
        """Whether the agent was saved with one of our policies, or one derived from them."""
        ours = "equirl_format" in self.data or "symmetry" in _described(self.data, "policy_kwargs")
        return ours or self.policy_module.startswith("equirl.")

    @property
    def is_native(self) -> bool:
        """Whether its network is equivariant by its layers, and holds no plain one."""
        return self.policy_module == NATIVE

    @property
    def policy_module(self) -> str:
        """The module of its policy's class; empty where the file does not say."""
        return str(_described(self.data, "policy_class").get("__module__", ""))

    @property
    def symmetry(self) -> Symmetry | None:
        """The agent's own symmetry, None where the file does not describe it in plain data.

        Raises:
            AgentError: the description is damaged.
        """
        if "equirl_symmetry" not in self.data:
            return None
        try:
            symmetry = from_json(self.data["equirl_symmetry"])
        except SymmetryError as error:
            raise AgentError(f"{self.path}: {error}") from error
        actions = self.action_space.space
        if isinstance(actions, spaces.Discrete) and actions.n == symmetry.action_space.n:
            # Format 1 does not say the dtype.
            return replace(symmetry, action_space=actions)
        return symmetry

    @cached_property
    def observation_space(self) -> SavedSpace:
        """What its policy saw, images channel-first."""
        return read_space(self.data.get("observation_space"))

    @cached_property
    def action_space(self) -> SavedSpace:
        """What it acted on."""
        return read_space(self.data.get("action_space"))

    @cached_property
    def architecture(self) -> Architecture:
        """Its algorithm and networks.

        Raises:
            AgentError: no algorithm that is known, or networks that it does not have.
        """
        try:
            return read_architecture(self.data, self.weights, self.observation_space.is_dict)
        except ValueError as error:
            raise AgentError(
                f"{self.path} is not an agent of an algorithm that equirl knows: {error}"
            ) from error

    @property
    def symmetrization(self) -> dict[str, Any]:
        """The policy's arguments beside its symmetry (method, init, …), those that were saved."""
        described = _described(self.data, "policy_kwargs")
        names = [name for name in SYMMETRIZATION if name != "symmetry" and name in described]
        return {name: described[name] for name in names}

    @property
    def net_arch(self) -> list[int]:
        """Widths of the hidden layers of a DQN agent's Q-network."""
        return list(self.architecture.net_arch["q"])

    def policy_kwargs(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of its policy's class.

        Args:
            given: by the user; they count before what the file says.

        Raises:
            UntrustedError: the file names a class that only its pickle holds.
        """
        described = self._described_policy_kwargs(given)
        if self.is_native:  # whose weights are shaped otherwise
            return {**described, **given, **self.normalising}
        # The network's own weights tell its widths, whatever the file says.
        widths = {name: list(widths) for name, widths in self.architecture.net_arch.items()}
        described["net_arch"] = widths.get("q", widths)
        if self.architecture.n_quantiles:
            described["n_quantiles"] = self.architecture.n_quantiles
        if self.architecture.n_critics:
            described["n_critics"] = self.architecture.n_critics
        pattern = re.compile(r"features_extractor\.linear\.0\.weight$")
        found = (weight for key, weight in self.weights.items() if pattern.search(key))
        features = next(found, None)
        if features is not None and features.dim() == 2:
            described["features_extractor_kwargs"] = {
                **described.get("features_extractor_kwargs", {}),
                "features_dim": int(features.shape[0]),
            }
        return {**described, **given, **self.normalising}

    def _described_policy_kwargs(self, given: dict[str, Any]) -> dict[str, Any]:
        described = self.data.get("policy_kwargs") or {}
        if not isinstance(described, dict):
            raise AgentError(f"{self.path} is damaged: its policy_kwargs are not a dict")
        # SB3 writes plain values as they are beside their pickle, and everything else as a string.
        return {
            name: self._library_class(name, value) if isinstance(value, str) else value
            for name, value in described.items()
            if not name.startswith(":") and name not in {*given, *SYMMETRIZATION, *OBSOLETE}
        }

    def _library_class(self, name: str, described: str) -> Any:
        try:
            found = library_class(name, described)
        except ImportError as error:
            raise AgentError(
                f"{self.path} needs {shortened(described)}: {reason(error)}"
            ) from error
        if found is None:
            name, described = shortened(name), shortened(described)
            raise UntrustedError(
                f"{self.path} was saved with {name} {described}, which only its pickle holds, and "
                "that could run any code",
                f"give it yourself, policy_kwargs=dict({name}=…)",
            )
        return found


def _described(data: dict[str, Any], name: str) -> dict[str, Any]:
    """What SB3 writes about an object beside its pickle."""
    described = data.get(name)
    return described if isinstance(described, dict) else {}
