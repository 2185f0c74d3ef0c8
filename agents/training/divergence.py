"""Trainings that diverge end with one line: losses and parameters that are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from equirl.errors import EquirlError, RunError


class DivergenceCallback(BaseCallback):
    """Ends the training, with one line, once a loss is NaN or infinite.

    Raises:
        RunError: see above; with exit code 2, as other hyper-parameters would mend it.
    """

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        for name, loss in self.logger.name_to_value.items():
            if name.startswith("train/") and name.endswith("loss") and not np.isfinite(loss):
                what = name.removeprefix("train/").replace("_", " ")
                raise _divergence(self.model) or _diverged(f"the {what} is {loss}", self.model)


def check_parameters(model: BaseAlgorithm) -> None:
    """Refuse a model that has learned numbers which are none.

    Raises:
        RunError: a parameter is not finite; with exit code 2, as above.
    """
    diverged = _divergence(model)
    if diverged is not None:
        raise diverged


@contextmanager
def divergence_is_named(model: BaseAlgorithm) -> Iterator[None]:
    """Says so where training ends with parameters that are not finite.

    Distributions of PyTorch refuse such parameters in words of their own; Q-networks take them, and
    so do distributions once `torch.compile` was used in the process: it turns their checks off.

    Raises:
        RunError: a parameter is not finite.
    """
    try:
        yield
    except (EquirlError, RunError):
        raise
    except (ValueError, RuntimeError):
        diverged = _divergence(model)
        if diverged is None:
            raise
        raise diverged from None
    check_parameters(model)


def _divergence(model: BaseAlgorithm) -> RunError | None:
    for name, parameter in model.policy.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return _diverged(f"{name} is not finite", model)
    return None


def _diverged(what: str, model: BaseAlgorithm) -> RunError:
    return RunError(
        f"training diverged: {what} after {model.num_timesteps} steps "
        "(a lower learning_rate may help; rewards must be finite)",
        code=2,
    )
