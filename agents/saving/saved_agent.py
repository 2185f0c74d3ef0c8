"""Saved SB3 agents of every version: what is in the zip, and how to build a model from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from equirl.agents.families import stock_of
from equirl.agents.native.native_policies import NATIVE_POLICIES, NativeEquivariantPolicy
from equirl.agents.saving.agent_file import agent_path, read_parts
from equirl.agents.saving.architecture import Architecture, in_todays_layout, read_architecture
from equirl.agents.saving.feature_order import same_order, with_keys_in_order
from equirl.agents.saving.reading.library_classes import library_class
from equirl.agents.saving.reading.saved_normalisation import SavedNormalisation
from equirl.agents.saving.reading.saved_spaces import SavedSpace, read_space
from equirl.agents.saving.training_on import give_training_state, hyper_parameters
from equirl.errors import AgentError, EquirlError, SymmetryError, UntrustedError
from equirl.saved_symmetry import from_json
from equirl.shown import reason, shortened, shown
from equirl.symmetrize import OPTIONS
from equirl.symmetry import Symmetry

SomeAlgorithm = TypeVar("SomeAlgorithm", bound=BaseAlgorithm)

OBSOLETE = ("device",)
"""Arguments that policies of earlier SB3 versions had."""

SYMMETRIZATION = ("symmetry", "method", *OPTIONS)
"""What belongs to one of our policies and not to the network inside it."""


@dataclass(frozen=True)
class SavedAgent:
    """A saved agent: its weights, and what of its description can be read without running it.

    Args:
        path: where it was read from.
        data: the JSON description that SB3 writes.
        weights: the state dict of its policy, as the current SB3 lays it out.
        training: the states of its optimisers and what else it trains on with (`Parts`).
        normalisation: the `VecNormalize` it was trained behind, where that is part of its network
            (`equirl.agents.saving.normalised`).
        normalising: policy arguments that make it so.
    """

    path: Path
    data: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    normalisation: SavedNormalisation | None = None
    normalising: dict[str, Any] = field(default_factory=dict)

    @property
    def is_equivariant(self) -> bool:
        """Whether the agent was saved with one of our policies, or one derived from them."""
        ours = "equirl_format" in self.data or "symmetry" in _described(self.data, "policy_kwargs")
        return ours or self.policy_module.startswith("equirl.")

    @property
    def is_native(self) -> bool:
        """Whether its network is equivariant by its layers, and holds no plain one."""
        return self.policy_module == NativeEquivariantPolicy.__module__

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

    def build(self, cls: type[SomeAlgorithm], env: GymEnv | str, **kwargs: Any) -> SomeAlgorithm:
        """A model of class ``cls`` with these weights, which trains on from where it stopped.

        Args:
            cls: the SB3 class of its algorithm, or a subclass.
            env: the environment.
            kwargs: constructor arguments of ``cls``; they count before what the file says.

        Raises:
            AgentError: the agent was made for other observations or actions, or its description
                is damaged.
        """
        given = set(kwargs)
        arguments = hyper_parameters(self.data, self.training, self._stock_of(cls), given)
        policy_kwargs = self.policy_kwargs(kwargs.pop("policy_kwargs", {}))
        if self.architecture.use_sde:  # which has no part in deterministic actions
            arguments["use_sde"] = True
            if hasattr(cls, "equivariant_policy"):
                policy_kwargs["evaluate_only"] = True
        env = maybe_make_env(env, verbose=0)
        name = self.architecture.policy
        policy: Any = NATIVE_POLICIES[name] if self.is_native else name
        try:
            env = cls._wrap_env(env, verbose=0)  # as the constructor does: images channel-first
            self.check_spaces(env.observation_space, env.action_space)
            model = cls(policy, env, policy_kwargs=policy_kwargs, **{**arguments, **kwargs})
        except AssertionError as error:  # how SB3 says that an extractor cannot take these spaces
            raise AgentError(
                f"{self.path} does not fit this environment: {_line(error, 0)}"
            ) from error
        except EquirlError:
            raise
        except Exception as error:  # what the file says of its policy may be of any type
            raise AgentError(
                f"{self.path} cannot be built as it says, or with the arguments given: "
                f"{reason(error)}"
            ) from error
        self.give_weights(model)
        has_order = same_order(self.observation_space.space, model.observation_space)
        give_training_state(self.training if has_order else {}, model, given, self.path)
        return model

    def give_weights(self, model: BaseAlgorithm) -> None:
        """Give a model of the same architecture these weights; it may be of another method.

        Raises:
            AgentError: the agent was made for other spaces, or has another network.
        """
        self._stock_of(type(model))
        self.check_spaces(model.observation_space, model.action_space)
        if self.is_native != isinstance(model.policy, NativeEquivariantPolicy):
            held = "equivariant layers" if self.is_native else "the weights of a plain network"
            raise AgentError(f"{self.path} holds {held}, which the network asked for has not")
        try:
            weights = self.weights_for(model)
            missing, unexpected = model.policy.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            raise AgentError(
                f"{self.path} does not fit this environment: {_line(error, -1)}"
            ) from error
        # What only one method has, such as the λ of lambda, belongs to the method, not the network.
        missing = [key for key in missing if ".symmetrized." not in f".{key}"]
        unexpected = [key for key in unexpected if ".symmetrized." not in f".{key}"]
        if missing or unexpected:
            raise AgentError(
                f"{self.path} holds another network: missing {shown(missing[:3])}, unexpected "
                f"{shown(unexpected[:3])}; give its policy_kwargs"
            )

    def check_spaces(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        """Refuse spaces that the agent was not made for; the order of a Dict's keys is free.

        Args:
            observation_space: as SB3 hands observations on, images channel-first.
            action_space: of the environment.

        Raises:
            AgentError: the spaces differ from those saved.
        """
        pairs = (
            ("observations", self.observation_space, observation_space),
            ("actions", self.action_space, action_space),
        )
        for what, saved, now in pairs:
            if saved.space is None and saved.is_dict:
                raise UntrustedError(
                    f"{self.path} was saved with observations whose keys only its pickle holds, "
                    "and that could run any code: load it with SB3 if you know who made it"
                )
            if not saved.equals(now):
                raise AgentError(
                    f"{self.path} was made for the {what} {_text(saved)}, the environment has "
                    f"{_text(now)}: name the environment it was trained in"
                )

    def weights_for(self, model: BaseAlgorithm) -> dict[str, Tensor]:
        """The weights for the order in which the model's space has the keys of a Dict.

        Raises:
            AgentError: it is not known what the order of keys means to its features extractor.
        """
        saved, now = self.observation_space.space, model.observation_space
        if same_order(saved, now):
            return self.weights
        assert isinstance(saved, spaces.Dict)
        assert isinstance(now, spaces.Dict)
        modules = model.policy.modules()
        extractor = next(part for part in modules if isinstance(part, BaseFeaturesExtractor))
        layers = self.architecture.first_layers
        try:
            return with_keys_in_order(self.weights, layers, extractor, saved, now)
        except ValueError as error:
            raise AgentError(
                f"{self.path} was made for the keys {list(saved)} in this order, the environment "
                f"has {list(now)}, and {error}: give them in that order"
            ) from error

    def _stock_of(self, cls: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
        """The SB3 class of its algorithm, which ``cls`` has to be of."""
        algorithm = self.architecture.algorithm
        trained_by, stock = stock_of(cls)
        if trained_by != algorithm:
            raise AgentError(
                f"{self.path} is not a {trained_by.upper()} agent but one of {algorithm}"
            )
        return stock

    def policy_kwargs(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of its policy's class.

        Args:
            given: by the user; they count before what the file says.

        Raises:
            UntrustedError: the file names a class that only its pickle holds.
        """
        described = self._described_policy_kwargs(given)
        if self.is_native:  # whose weights are shaped otherwise
            return {**described, **given}
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
                f"that could run any code: give it yourself, policy_kwargs=dict({name}=…)"
            )
        return found


def read_agent(path: str | Path) -> SavedAgent:
    """Reads a saved agent of SB3 or sb3-contrib, plain or ours, without running code from it.

    Raises:
        AgentError: there is no such file, it is damaged, not of an algorithm that is known, or
            saved by a later version of equirl.
    """
    path = agent_path(Path(path))
    data, weights, training = read_parts(path)
    agent = SavedAgent(path, data, in_todays_layout(weights), training)
    _ = agent.architecture  # or refused here
    return agent


def _described(data: dict[str, Any], name: str) -> dict[str, Any]:
    """What SB3 writes about an object beside its pickle."""
    described = data.get(name)
    return described if isinstance(described, dict) else {}


def _text(space: object) -> str:
    return shortened(str(space))


def _line(error: Exception, which: int) -> str:
    return shortened((str(error).strip() or type(error).__name__).splitlines()[which])
