"""How often a saved agent trained, and at which learning rate."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Mapping
from typing import Any, cast

from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule


class _TrainFreqUnpickler(pickle.Unpickler):
    """Unpickles SB3's TrainFreq, which is written in no other way, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in {
            (TrainFreq.__module__, TrainFreq.__name__),
            (TrainFrequencyUnit.__module__, TrainFrequencyUnit.__name__),
        }:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a training frequency")
        return super().find_class(module, name)


def read_train_freq(described: Any) -> tuple[int, str] | None:
    """Steps or episodes, and which of the two; None where that cannot be read."""
    if isinstance(described, int):
        return described, TrainFrequencyUnit.STEP.value
    try:
        file = io.BytesIO(base64.b64decode(described[":serialized:"]))
        frequency, unit = _TrainFreqUnpickler(file).load()
        return int(frequency), TrainFrequencyUnit(unit).value
    except Exception:  # another version's, or damaged: SB3's default will do
        return None


def read_linear_schedule(described: Mapping[str, Any]) -> LinearSchedule | None:
    """A learning rate that falls, to begin anew; None where it is not saved in plain numbers."""
    start, end, fraction = (described.get(name) for name in ("start", "end", "end_fraction"))
    if not all(isinstance(number, int | float) for number in (start, end, fraction)):
        return None
    return LinearSchedule(cast(float, start), cast(float, end), cast(float, fraction))
