"""What a saved agent trains on with beside its weights: hyper-parameters, moments, temperature."""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor
from torch.optim import Optimizer

from equirl.agents.saving.reading.saved_schedules import (
    read_action_noise,
    read_linear_schedule,
    read_schedule,
    read_train_freq,
)
from equirl.errors import AgentError

HYPER_PARAMETERS = (
    "batch_size",
    "buffer_size",
    "cg_damping",
    "cg_max_steps",
    "ent_coef",
    "exploration_final_eps",
    "exploration_fraction",
    "exploration_initial_eps",
    "gae_lambda",
    "gamma",
    "gradient_steps",
    "learning_rate",
    "learning_starts",
    "line_search_max_iter",
    "line_search_shrinking_factor",
    "max_grad_norm",
    "n_critic_updates",
    "n_epochs",
    "n_steps",
    "normalize_advantage",
    "policy_delay",
    "sub_sampling_factor",
    "target_entropy",
    "target_kl",
    "target_noise_clip",
    "target_policy_noise",
    "target_update_interval",
    "tau",
    "top_quantiles_to_drop_per_net",
    "vf_coef",
)
"""What an agent takes over from the file, where its class takes it and it is a plain number; and
``train_freq``, ``clip_range``, ``clip_range_vf`` and ``action_noise``, which are objects."""

VARIABLES = ("pytorch_variables", "tensors")
"""Where the temperature of SAC and TQC stands, since SB3 1.0 and before."""

TEMPERATURE = "log_ent_coef"


def hyper_parameters(
    data: Mapping[str, Any],
    training: Mapping[str, Mapping[str, Any]],
    stock: type[BaseAlgorithm],
    given: Set[str],
) -> dict[str, Any]:
    """Arguments of the class that say how the agent was trained; what cannot be read is left out.

    Args:
        data: the JSON description of the agent.
        training: see `Parts`.
        stock: the SB3 class of its algorithm.
        given: arguments that count before these.
    """
    taken = inspect.signature(stock).parameters
    plain = {
        name: data[name]
        for name in HYPER_PARAMETERS
        if name in taken and isinstance(data.get(name), int | float)
    }
    coefficient = data.get("ent_coef")
    if isinstance(coefficient, str) and coefficient.startswith("auto"):
        plain["ent_coef"] = coefficient
    schedule = read_linear_schedule(_described(data, "learning_rate"))
    last = _last_learning_rate(training)
    if schedule is not None:
        plain["learning_rate"] = schedule
    elif "learning_rate" not in plain and (last or 0) > 0:
        # A schedule may have ended at 0, or by rounding below.
        plain["learning_rate"] = last
    if "use_rms_prop" in taken:  # without it A2C has Adam, as every policy has
        plain["use_rms_prop"] = "optimizer_class" in _described(data, "policy_kwargs")
    read: dict[str, Any] = {n: read_schedule(data.get(n)) for n in ("clip_range", "clip_range_vf")}
    read["action_noise"] = read_action_noise(data.get("action_noise"))
    plain |= {name: one for name, one in read.items() if name in taken and one is not None}
    if "replay_buffer_class" in taken and "replay_buffer_class" not in given:
        plain |= _hindsight(data)
    steps = _described(data, "replay_buffer_kwargs").get("n_steps")
    if isinstance(steps, int):  # which its replay buffer had, rather than the agent
        plain["n_steps"] = steps
    if {"train_freq", "gradient_steps"} <= given or "train_freq" not in taken:
        return plain
    train_freq = read_train_freq(data.get("train_freq"))
    if train_freq is None:
        # Without each other these two mean nothing.
        plain.pop("gradient_steps", None)
        return plain
    return {**plain, "train_freq": train_freq}


def _hindsight(data: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for an agent that was trained with hindsight (arXiv 1707.01495)."""
    module = _described(data, "replay_buffer_class").get("__module__")
    if module != HerReplayBuffer.__module__:
        return {}
    described = _described(data, "replay_buffer_kwargs")
    known = {"n_sampled_goal": int, "goal_selection_strategy": str, "copy_info_dict": bool}
    kept = {
        name: described[name] for name, kind in known.items() if type(described.get(name)) is kind
    }
    return {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": kept}


def give_training_state(
    training: Mapping[str, Mapping[str, Any]],
    model: BaseAlgorithm,
    given: Set[str],
    path: Path,
    arranged: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    """Let a model train on from where its file stopped, rather than anew.

    An Adam that has forgotten its moments moves every parameter by the whole learning rate at
    first, and a SAC whose temperature is 1 again unlearns what it can do to be random.

    Args:
        training: see `Parts`. An optimiser goes on where it is of the same kind and shapes.
        model: with the weights of the file.
        given: the arguments that it was built with; a temperature among them counts.
        path: of the file, for messages.
        arranged: what is saved of each weight, by name, for the order of the model's keys.

    Raises:
        AgentError: the temperature is damaged.
    """
    optimizers, variables = model._get_torch_save_params()
    if "ent_coef" in given:
        optimizers = [name for name in optimizers if name != "ent_coef_optimizer"]
    elif TEMPERATURE in variables:
        held = (training.get(name, {}).get(TEMPERATURE) for name in VARIABLES)
        saved = next((one for one in held if one is not None), None)
        own: Tensor = getattr(model, TEMPERATURE)
        if saved is not None:
            if not _is_like(saved, own) or not bool(saved.isfinite().all()):
                raise AgentError(f"{path} is damaged: its {TEMPERATURE} is not a finite number")
            own.data.copy_(saved.detach())
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    for name in optimizers:
        optimizer = attrgetter(name)(model)
        if isinstance(optimizer, Optimizer):
            _give_moments(optimizer, training.get(name), names, arranged)


def _give_moments(
    optimizer: Optimizer,
    saved: Any,
    names: Mapping[int, str],
    arranged: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    """Give an optimiser the state that it was saved with, where that fits.

    Parameters are told by their order, as in every optimiser's file. What only the method has, such
    as the λ of `lambda`, was not among them.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [i for i, p in enumerate(parameters) if ".symmetrized." not in f".{names.get(id(p))}"]
    try:
        # By position; earlier versions of SB3 have target networks at the end, without a state.
        order = [key for group in saved["param_groups"] for key in group["params"]]
        states = {i: saved["state"][key] for i, key in enumerate(order) if key in saved["state"]}
        expected = _names_of_state(optimizer)
        fit = [
            set(state) == expected
            and all(
                _is_number(one) if name == "step" else _is_like(one, parameters[kept[i]])
                for name, one in state.items()
            )
            for i, state in states.items()
        ]
    except (AttributeError, LookupError, TypeError, ValueError):  # there is none, or it is damaged
        return
    if all(fit):
        of = {i: names.get(id(parameters[kept[i]]), "") for i in states}
        for moment in expected - {"step"}:
            found = arranged({of[i]: state[moment] for i, state in states.items()})
            states = {i: {**state, moment: found[of[i]]} for i, state in states.items()}
        own = optimizer.state_dict()
        own["state"] = {kept[i]: state for i, state in states.items()}
        optimizer.load_state_dict(own)


def _names_of_state(optimizer: Optimizer) -> set[str]:
    """What an optimiser remembers of each parameter, seen at one that it has moved."""
    group = optimizer.param_groups[0]
    moved = torch.zeros_like(group["params"][0], requires_grad=True)
    moved.grad = torch.zeros_like(moved)
    another = copy.copy(optimizer)
    another.state, another.param_groups = defaultdict(dict), [{**group, "params": [moved]}]
    another.step()
    return set(another.state[moved])


def _is_like(one: Any, parameter: Tensor) -> bool:
    return isinstance(one, Tensor) and one.shape == parameter.shape and one.is_floating_point()


def _is_number(one: Any) -> bool:
    return isinstance(one, int | float) or (isinstance(one, Tensor) and one.dim() == 0)


def _last_learning_rate(training: Mapping[str, Mapping[str, Any]]) -> float | None:
    """That of the last step, for where it was given as a schedule."""
    for name in ("policy.optimizer", "actor.optimizer"):
        try:
            return float(training[name]["param_groups"][0]["lr"])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
    return None


def _described(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What SB3 writes about an object beside its pickle."""
    described = data.get(name)
    return described if isinstance(described, dict) else {}
