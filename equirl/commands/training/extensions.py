"""What a training takes from outside: callbacks of the user's own, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, filter_excluded_keys

from equirl.commands.environments import imported
from equirl.errors import ConfigError
from equirl.runs.run_directory import RunDirectory
from equirl.shown import reason

PROJECT = "equirl"
"""Of what is logged, unless ``WANDB_PROJECT`` or ``MLFLOW_EXPERIMENT_NAME`` says another."""


def callbacks_named(references: Sequence[str]) -> list[BaseCallback]:
    """The callbacks that ``callbacks=[module:Class,…]`` names.

    Args:
        references: each a class of callbacks or a function that makes one, called without
            arguments; or a callback.

    Raises:
        ConfigError: there is no such thing, or it makes no callback.
    """
    return [_callback(reference) for reference in references]


def _callback(reference: str) -> BaseCallback:
    found = imported(reference)
    if callable(found) and not isinstance(found, BaseCallback):
        try:
            found = found()
        except Exception as error:  # code of the user's own
            raise ConfigError(f"callbacks: {reference}() failed: {reason(error)}") from error
    if not isinstance(found, BaseCallback):
        raise ConfigError(
            f"callbacks: {reference} must be or make a callback of SB3 "
            f"(stable_baselines3.common.callbacks.BaseCallback), got {type(found).__name__}"
        )
    return found


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers that are not installed.

    Raises:
        ConfigError: saying how to install them.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f'loggers=[{name}] needs pip install "equirl[{name}]"')


@contextmanager
def logged_by(
    names: Sequence[str], run: Path, config: dict[str, Any], is_new: bool
) -> Iterator[tuple[list[BaseCallback], list[KVWriter]]]:
    """Begin logging; gives callbacks for `learn` and outputs for SB3's logger.

    Args:
        names: of the loggers. Where they log to is said in their own ways, by their environment
            variables; a run that is resumed goes on in the same curves.
        run: the run directory.
        config: the run's, keys dotted.
        is_new: the directory was made just now, and goes again where a logger cannot begin.

    Raises:
        ConfigError: one of them cannot begin.
    """
    callbacks: list[BaseCallback] = []
    outputs: list[KVWriter] = []
    with ExitStack() as stack:
        half_begun = stack.enter_context(ExitStack())  # entered first, left last
        if is_new:
            half_begun.callback(shutil.rmtree, run)
        for name in names:
            try:
                end = BEGIN[name](run, config, callbacks, outputs)
            except Exception as error:  # no network, no account, no place to write to
                raise ConfigError(f"loggers: {name} cannot begin: {reason(error)}") from error
            stack.push(partial(_ended, end))
        half_begun.pop_all()
        yield callbacks, outputs


def _ended(end: Callable[[bool], object], kind: type[BaseException] | None, *_: object) -> None:
    """Close what a logger opened, as finished unless an exception ended the training."""
    end(kind is None)


def _log_id(run: Path) -> str:
    """By what the run's curves are found again; no other run has it, whatever its name."""
    file = RunDirectory(run).log_id
    if not file.exists():
        file.write_text(uuid4().hex[:8])
    return file.read_text()


def _begin_wandb(
    run: Path, config: dict[str, Any], callbacks: list[BaseCallback], outputs: list[KVWriter]
) -> Callable[[bool], object]:
    import wandb
    from wandb.integration.sb3 import WandbCallback

    began = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=run.name,
        id=_log_id(run),
        dir=run,
        config=config,
        resume="allow",
    )
    callbacks.append(WandbCallback())
    outputs.append(_Output(lambda numbers, step: began.log(numbers, step=step)))
    return lambda finished: began.finish(exit_code=0 if finished else 1)


def _begin_mlflow(
    run: Path, config: dict[str, Any], callbacks: list[BaseCallback], outputs: list[KVWriter]
) -> Callable[[bool], object]:
    """As SB3's page on integrations has it."""
    import mlflow

    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    identity = _log_id(run)
    known = mlflow.search_runs(filter_string=f"tags.equirl = '{identity}'", output_format="list")
    mlflow.start_run(run_id=known[0].info.run_id if known else None, run_name=run.name)
    if not known:
        mlflow.set_tag("equirl", identity)
        mlflow.log_params(config)
    outputs.append(_Output(lambda numbers, step: mlflow.log_metrics(numbers, step=step)))
    return lambda finished: mlflow.end_run("FINISHED" if finished else "FAILED")


BEGIN = {"wandb": _begin_wandb, "mlflow": _begin_mlflow}
"""By the name of the logger."""


class _Output(KVWriter):
    """Hands the numbers of SB3's logger on."""

    def __init__(self, log: Callable[[dict[str, float], int], object]) -> None:
        self.log = log

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """See SB3."""
        shown = filter_excluded_keys(key_values, key_excluded, type(self).__name__)
        numbers = {
            key: float(value)
            for key, value in shown.items()
            if isinstance(value, int | float) or hasattr(value, "__float__")
        }
        if numbers:
            self.log(numbers, step)

    def close(self) -> None:
        """See SB3."""
