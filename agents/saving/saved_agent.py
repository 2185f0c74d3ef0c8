"""Saved SB3 agents of every version, and how to build a model from one."""

from __future__ import annotations

import warnings
from functools import partial
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
from equirl.agents.saving.architecture import in_todays_layout
from equirl.agents.saving.feature_order import same_order, with_keys_in_order
from equirl.agents.saving.saved_description import SavedDescription
from equirl.agents.saving.training_on import give_training_state, hyper_parameters
from equirl.errors import AgentError, EquirlError, UntrustedError
from equirl.shown import reason, shortened, shown
from equirl.symmetrize.methods import Relaxed

SomeAlgorithm = TypeVar("SomeAlgorithm", bound=BaseAlgorithm)


class SavedAgent(SavedDescription):
    """A saved agent: what its file says, and the models that are built from it."""

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
        of_policy = kwargs.pop("policy_kwargs", {})
        kept = self.kept_of_relaxed(**{**_of_method(kwargs), **_of_method(of_policy)})
        kwargs |= {name: value for name, value in kept.items() if name not in of_policy}
        policy_kwargs = self.policy_kwargs(of_policy)
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
            with warnings.catch_warnings():
                if not given & {"n_steps", "batch_size"}:  # of a training on other environments
                    warnings.filterwarnings("ignore", "You have specified a mini-batch size")
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
        arranged = partial(self._for_keys_of, model)
        give_training_state(self.training, model, given, self.path, arranged)
        return model

    def kept_of_relaxed(
        self,
        method: Any = None,
        inner: str | None = None,
        per_action: bool | str | None = None,
    ) -> dict[str, Any]:
        """Of an agent of `relaxed`, the options that a model of `relaxed` with its weights has.

        What α learned keeps its shape, and belongs to the inner method unless another is asked for.

        Args:
            method: of the model.
            inner: as given; None is not given.
            per_action: alike.

        Raises:
            AgentError: the agent has the other kind of α.
        """
        if isinstance(method, Relaxed):
            inner = inner or method.inner
            per_action = method.per_action if per_action is None else per_action
            method = method.name
        if not method == self.symmetrization.get("method") == "relaxed":
            return {}
        saved = self.symmetrization.get("per_action")
        if per_action not in (None, saved):
            raise AgentError(
                f"{self.path} was trained with per_action={saved}, which cannot be changed: leave "
                "per_action out"
            )
        return {"inner": inner or self.symmetrization.get("inner"), "per_action": saved}

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
        return self._for_keys_of(model, self.weights)

    def _for_keys_of(self, model: BaseAlgorithm, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights by name, or what else there is one of for each weight; see `weights_for`."""
        saved, now = self.observation_space.space, model.observation_space
        if same_order(saved, now):
            return tensors
        assert isinstance(saved, spaces.Dict)
        assert isinstance(now, spaces.Dict)
        modules = model.policy.modules()
        extractor = next(part for part in modules if isinstance(part, BaseFeaturesExtractor))
        layers = self.architecture.first_layers
        try:
            return with_keys_in_order(tensors, layers, extractor, saved, now)
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


def _of_method(arguments: dict[str, Any]) -> dict[str, Any]:
    names = ("method", "inner", "per_action")
    return {name: arguments[name] for name in names if arguments.get(name) is not None}


def _text(space: object) -> str:
    return shortened(str(space))


def _line(error: Exception, which: int) -> str:
    return shortened((str(error).strip() or type(error).__name__).splitlines()[which])
