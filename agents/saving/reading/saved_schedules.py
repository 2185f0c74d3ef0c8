"""How a saved agent trained: how often, at which rates, and exploring by which noise."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule

from equirl.agents.saving.reading.inert_pickles import Inert, read_inertly, value_of


def read_train_freq(described: Any) -> tuple[int, str] | None:
    """Steps or episodes, and which of the two; None where that cannot be read."""
    if isinstance(described, int):
        return described, TrainFrequencyUnit.STEP.value
    try:
        frequency, unit = _made_with(_read(described), TrainFreq)
        (name,) = _made_with(unit, TrainFrequencyUnit)
        return int(frequency), TrainFrequencyUnit(name).value
    except (TypeError, ValueError):  # another version's, or damaged: SB3's default will do
        return None


def read_linear_schedule(described: Mapping[str, Any]) -> LinearSchedule | None:
    """A learning rate that falls, to begin anew; None where it is not saved in plain numbers."""
    start, end, fraction = (described.get(name) for name in ("start", "end", "end_fraction"))
    if not all(isinstance(number, int | float) for number in (start, end, fraction)):
        return None
    return LinearSchedule(cast(float, start), cast(float, end), cast(float, fraction))


def read_schedule(described: Any) -> float | LinearSchedule | None:
    """A number, or one that falls; None where it is neither, as a function of the user's own."""
    if isinstance(described, int | float):
        return float(described)
    read = _read(described)
    state = _inside(read, "value_schedule").state  # of a FloatSchedule
    value = state.get("val")
    return float(value) if isinstance(value, int | float) else read_linear_schedule(state)


def read_action_noise(described: Any) -> ActionNoise | None:
    """The noise that an agent explored by; None for none, or one that is not SB3's own."""
    read = _inside(_read(described), "_base_noise")  # of the noise of several environments
    try:
        mean, sigma = (np.asarray(value_of(read.state[n]), np.float64) for n in ("_mu", "_sigma"))
        if type(read).named == (NormalActionNoise.__module__, "NormalActionNoise"):
            return NormalActionNoise(mean, sigma)
        if type(read).named == (NormalActionNoise.__module__, "OrnsteinUhlenbeckActionNoise"):
            theta, dt = (float(read.state[name]) for name in ("_theta", "_dt"))
            return OrnsteinUhlenbeckActionNoise(mean, sigma, theta, dt)
    except (KeyError, TypeError, ValueError):  # another version's, or damaged
        pass
    return None


def _read(described: Any) -> Inert:
    """The object that SB3 has pickled beside its description; a bare `Inert` where it cannot be."""
    try:
        read = read_inertly(base64.b64decode(described[":serialized:"]))
    except Exception:  # not described, or damaged
        return Inert()
    return read if isinstance(read, Inert) else Inert()


def _made_with(read: Any, cls: type[Any]) -> tuple[Any, ...]:
    """What an object of a class is made with; nothing where it is of another."""
    is_of = isinstance(read, Inert) and type(read).named == (cls.__module__, cls.__name__)
    return read.arguments if is_of else ()


def _inside(read: Inert, name: str) -> Inert:
    """What it holds by that name, if it does."""
    held = read.state.get(name)
    return held if isinstance(held, Inert) else read
