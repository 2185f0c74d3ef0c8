"""Reading saved SB3 agents of any version: what is in the zip, and how to build a model from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from equirl.agents.native.native_policies import NATIVE_POLICIES, NativeEquivariantPolicy
from equirl.agents.saving.agent_file import agent_path, read_parts
from equirl.agents.saving.library_classes import library_class
from equirl.agents.saving.saved_schedules import read_linear_schedule, read_train_freq
from equirl.errors import AgentError, EquirlError, SymmetryError, UntrustedError
from equirl.shown import reason, shortened, shown
from equirl.symmetry import Symmetry
from equirl.symmetry_json import from_json

SomeDQN = TypeVar("SomeDQN", bound=DQN)

HYPER_PARAMETERS = (
    "batch_size",
    "buffer_size",
    "exploration_final_eps",
    "exploration_fraction",
    "exploration_initial_eps",
    "gamma",
    "gradient_steps",
    "learning_rate",
    "learning_starts",
    "max_grad_norm",
    "n_steps",
    "target_update_interval",
    "tau",
)
"""What is taken over from the file, where it is a plain number; and ``train_freq``."""

SYMMETRIZATION = ("symmetry", "method", "gradient", "init", "canonical_score", "orbit_samples")
"""What belongs to one of our policies and not to the network inside it."""


@dataclass(frozen=True)
class SavedAgent:
    """A saved DQN agent: weights, and what of its description can be read without unpickling.

    Args:
        path: where it was read from.
        data: the JSON description that SB3 writes.
        weights: the state dict of its policy.
        learning_rate: that of the last step, for where it was given as a schedule.
    """

    path: Path
    data: dict[str, Any]
    weights: dict[str, Tensor]
    learning_rate: float | None = None

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
            return from_json(self.data["equirl_symmetry"])
        except SymmetryError as error:
            raise AgentError(f"{self.path}: {error}") from error

    @property
    def symmetrization(self) -> dict[str, Any]:
        """The policy's arguments beside its symmetry (method, init, …), in so far as saved."""
        described = _described(self.data, "policy_kwargs")
        names = [name for name in SYMMETRIZATION if name != "symmetry" and name in described]
        return {name: described[name] for name in names}

    @property
    def net_arch(self) -> list[int]:
        """Widths of the hidden layers of the Q-network."""
        return [int(w.shape[0]) for w in self._layer_weights()[:-1]]

    @property
    def action_count(self) -> int:
        """Number of actions the agent chooses from."""
        return int(self._layer_weights()[-1].shape[0])

    def _layer_weights(self) -> list[Tensor]:
        layers = {}
        for key, weight in self.weights.items():
            match = re.fullmatch(r"q_net\.q_net\.(\d+)\.weight", key)
            if match and weight.dim() == 2:
                layers[int(match[1])] = weight
        return [layers[i] for i in sorted(layers)]

    def build(self, cls: type[SomeDQN], env: GymEnv | str, **kwargs: Any) -> SomeDQN:
        """A model of class ``cls`` with these weights.

        Args:
            cls: `DQN`, or a subclass.
            env: the environment.
            kwargs: constructor arguments of ``cls``; they count before what the file says.

        Raises:
            AgentError: the agent was made for other observations or actions, or its description
                is damaged.
        """
        hyper_parameters = self._hyper_parameters(given=set(kwargs))
        policy_kwargs = self._policy_kwargs(kwargs.pop("policy_kwargs", {}))
        is_dict = "dict.Dict" in str(_described(self.data, "observation_space").get(":type:"))
        env = maybe_make_env(env, verbose=0)
        if is_dict != isinstance(env.observation_space, spaces.Dict):
            kind = "dict observations" if is_dict else "observations that are one array"
            raise AgentError(
                f"{self.path} was made for {kind}, the environment has {env.observation_space}: "
                "name the environment it was trained in"
            )
        is_cnn = any(".features_extractor.cnn." in key for key in self.weights)
        alias = "MultiInputPolicy" if is_dict else "CnnPolicy" if is_cnn else "MlpPolicy"
        policy: Any = NATIVE_POLICIES[alias] if self.is_native else alias
        try:
            model = cls(policy, env, policy_kwargs=policy_kwargs, **{**hyper_parameters, **kwargs})
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
        return model

    def give_weights(self, model: DQN) -> None:
        """Give a model of the same architecture these weights; it may be of another method.

        Raises:
            AgentError: the agent was made for other observations or actions, or has another
                network.
        """
        self._check_spaces(model)
        if self.is_native != isinstance(model.policy, NativeEquivariantPolicy):
            held = "equivariant layers" if self.is_native else "the weights of a plain network"
            raise AgentError(f"{self.path} holds {held}, which the network asked for has not")
        try:
            missing, unexpected = model.policy.load_state_dict(self.weights, strict=False)
        except RuntimeError as error:
            raise AgentError(
                f"{self.path} does not fit this environment: {_line(error, -1)}"
            ) from error
        # What only one method has, such as the λ of lambda, belongs to the method, not the network.
        missing = [key for key in missing if ".symmetrized." not in key]
        unexpected = [key for key in unexpected if ".symmetrized." not in key]
        if missing or unexpected:
            raise AgentError(
                f"{self.path} holds another network: missing {shown(missing[:3])}, unexpected "
                f"{shown(unexpected[:3])}; give its policy_kwargs"
            )

    def _hyper_parameters(self, given: set[str]) -> dict[str, Any]:
        plain = {
            name: self.data[name]
            for name in HYPER_PARAMETERS
            if isinstance(self.data.get(name), int | float)
        }
        schedule = read_linear_schedule(_described(self.data, "learning_rate"))
        if schedule is not None:
            plain["learning_rate"] = schedule
        elif "learning_rate" not in plain and self.learning_rate:
            plain["learning_rate"] = self.learning_rate
        steps = _described(self.data, "replay_buffer_kwargs").get("n_steps")
        if isinstance(steps, int):  # which its replay buffer had, rather than the agent
            plain["n_steps"] = steps
        if {"train_freq", "gradient_steps"} <= given:
            return plain
        train_freq = read_train_freq(self.data.get("train_freq"))
        if train_freq is None:
            # Without each other these two mean nothing.
            plain.pop("gradient_steps", None)
            return plain
        return {**plain, "train_freq": train_freq}

    def _check_spaces(self, model: DQN) -> None:
        actions = model.action_space
        assert isinstance(actions, spaces.Discrete)
        inputs = self._layer_weights()[0].shape[1]
        from_observation = not any(".features_extractor." in key for key in self.weights)
        expected = get_flattened_obs_dim(model.observation_space) if from_observation else inputs
        if inputs != expected or self.action_count != int(actions.n):
            observations = f"{inputs} observation entries and " if from_observation else ""
            raise AgentError(
                f"{self.path} was made for {observations}{self.action_count} actions, the "
                f"environment has {f'{expected} and ' if from_observation else ''}{actions.n}: "
                "name the environment it was trained in"
            )
        shape = _described(self.data, "observation_space").get("_shape")
        # Convolutions take images of other sizes without a word.
        if isinstance(shape, list) and tuple(shape) != model.observation_space.shape:
            raise AgentError(
                f"{self.path} was made for observations of shape {tuple(shape)}, the environment "
                f"has {model.observation_space.shape}: name the environment it was trained in"
            )

    def _policy_kwargs(self, given: dict[str, Any]) -> dict[str, Any]:
        described = self._described_policy_kwargs(given)
        if self.is_native:  # whose weights are shaped otherwise
            return {**described, **given}
        # The network's own weights tell its widths, whatever the file says.
        described["net_arch"] = self.net_arch
        features = self.weights.get("q_net.features_extractor.linear.0.weight")
        if features is not None and features.dim() == 2:
            described["features_extractor_kwargs"] = {
                **described.get("features_extractor_kwargs", {}),
                "features_dim": int(features.shape[0]),
            }
        return {**described, **given}

    def _described_policy_kwargs(self, given: dict[str, Any]) -> dict[str, Any]:
        described = self.data.get("policy_kwargs") or {}
        if not isinstance(described, dict):
            raise AgentError(f"{self.path} is damaged: its policy_kwargs are no dict")
        # SB3 writes plain values as they are beside their pickle, and everything else as a string.
        return {
            name: self._library_class(name, value) if isinstance(value, str) else value
            for name, value in described.items()
            if not name.startswith(":") and name not in {*given, *SYMMETRIZATION}
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
    """Reads a saved DQN agent, plain or ours, without running any code from the file.

    Raises:
        AgentError: there is no such file, it is damaged, not a DQN agent, or saved by a later
            version of equirl.
    """
    path = agent_path(Path(path))
    agent = SavedAgent(path, *read_parts(path))
    if not agent._layer_weights():
        raise AgentError(f"{path} is not a DQN agent: its policy has no q_net.q_net layers")
    return agent


def _described(data: dict[str, Any], name: str) -> dict[str, Any]:
    """What SB3 writes about an object beside its pickle."""
    described = data.get(name)
    return described if isinstance(described, dict) else {}


def _line(error: Exception, which: int) -> str:
    return shortened((str(error).strip() or type(error).__name__).splitlines()[which])
