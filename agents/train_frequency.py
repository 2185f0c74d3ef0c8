"""How often a saved agent trained, which SB3 writes as a pickle and in no other way."""

from __future__ import annotations

import base64
import io
import pickle
from typing import Any

from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit


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
