"""How every example is run: settings `key=value`, one table at the end, one line for a mistake."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from equirl.errors import ConfigError, EquirlError
from equirl.shown import nearest, reason, shortened

Row = Mapping[str, Any]
COMMON = {"seeds": 1, "first_seed": 0, "device": "cpu", "threads": 1, "out": ""}
"""Settings that every example has."""
POSITIVE = frozenset(
    {"seeds", "threads", "batch", "hidden", "tested", "labelled"}
    | {"vocabulary", "length", "continuations", "continued"}
)
"""Settings that are at least 1, by whichever example; other numbers are at least 0."""


def main(
    run: Callable[[DictConfig], list[Row]],
    defaults: Mapping[str, Any],
    quick: Mapping[str, Any],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run an example: settings in, a table and a JSON file out.

    Args:
        run: takes the settings, gives the rows of the table; columns are the keys of the first.
        defaults: every setting with its default value.
        quick: what ``--quick`` replaces; settings that are given win.
        arguments: of the command line; those of this process if left out.

    Returns:
        The exit code: 2 for a mistake, of which one line is printed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in given:
        print("settings, as key=value:")
        print(OmegaConf.to_yaml(OmegaConf.create({**COMMON, **defaults})))
        return 0
    begin = time.perf_counter()
    try:
        settings = _settings(given, defaults, quick)
        torch.set_num_threads(int(settings.threads))
        _try_device(settings.device)
        if settings.out:
            _try_file(Path(settings.out))
        rows = run(settings)
        if not rows:
            raise ConfigError("there is nothing to run: a list of settings is empty")
    except (EquirlError, OmegaConfBaseException) as mistake:
        print(f"error: {shortened(str(mistake).splitlines()[0])}", file=sys.stderr)
        return 2
    seconds = round(time.perf_counter() - begin, 1)
    print(table(rows), f"{seconds} s", sep="\n")
    if settings.out:
        result = {"settings": OmegaConf.to_container(settings), "seconds": seconds, "rows": rows}
        Path(settings.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _settings(
    given: list[str], defaults: Mapping[str, Any], quick: Mapping[str, Any]
) -> DictConfig:
    """The defaults, under those of ``--quick``, under what the command line says."""
    known = {**COMMON, **defaults}
    is_quick = "--quick" in given
    words = [word for word in given if word != "--quick"]
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals:
            raise ConfigError(f"settings are written key=value, got {word!r}")
        if key not in known:
            raise ConfigError(f"no setting {key!r}{nearest(key, known)}; known: {', '.join(known)}")
    settings = OmegaConf.create({**known, **(quick if is_quick else {})})
    merged = OmegaConf.merge(settings, OmegaConf.from_dotlist(words))
    assert isinstance(merged, DictConfig)
    for key, value in known.items():
        if isinstance(value, str) and merged[key] is None:  # key= with nothing behind it
            merged[key] = ""
        if value is not None and not _fits(merged[key], value):
            raise ConfigError(f"{key} must be like {value!r}, got {merged[key]!r}")
        least = int(key in POSITIVE)
        if isinstance(value, (int, float)) and not least <= merged[key] < float("inf"):
            raise ConfigError(f"{key} must be at least {least}, got {merged[key]!r}")
    if merged.first_seed + merged.seeds > 2**32:
        raise ConfigError(f"seeds are below 2**32, got first_seed={merged.first_seed}")
    return merged


def _fits(value: Any, like: Any) -> bool:
    if isinstance(like, (list, tuple)):
        return OmegaConf.is_list(value) and all(_fits(item, like[0]) for item in value)
    if isinstance(like, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(like)  # a bool is an int


def _try_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:  # the first where torch lacks CUDA
        raise ConfigError(
            f"device={name} cannot be used, device=cpu can ({reason(error)})"
        ) from None


def _try_file(path: Path) -> None:
    try:
        path.open("a").close()
    except OSError as error:
        raise ConfigError(f"out={path} cannot be written ({reason(error)})") from None


def need(module: str, package: str | None = None) -> Any:
    """The module, of a package that only examples need.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        if module.partition(".")[0] in ("open_clip", "torchvision", "transformers"):
            _load_torchvision()
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a broken one raises any of these
        raise ConfigError(
            f"this needs {package or module}: pip install 'equirl[examples]' ({reason(error)})"
        ) from None


def hugging_face() -> Any:
    """Its transformers, without a progress bar beside the one line of a mistake."""
    transformers = need("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _load_torchvision() -> None:
    """Without its operators if need be, which are for detecting objects.

    PyPI's torchvision is built for CUDA. Beside a torch for the CPU alone they do not load, and
    its import fails at two of them, unless they are declared.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            arguments = "Tensor dets, Tensor scores, float iou_threshold"
            torch.library.define(f"torchvision::{name}", f"({arguments}) -> Tensor")


@contextmanager
def quietly() -> Iterator[None]:
    """No warning meanwhile: what is missing is said in one line, by whoever raises it."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def one_of(key: str, value: str, known: Sequence[str]) -> str:
    """The value, where it is known.

    Raises:
        ConfigError: it is not.
    """
    if value not in known:
        few = ", ".join(name or "''" for name in known)
        listed = few if len(known) <= 12 else f"{len(known)} names"
        raise ConfigError(f"{key} must be one of {listed}, got {value!r}{nearest(value, known)}")
    return value


def each_seed(settings: DictConfig) -> range:
    """The seeds to run: as many as ``seeds`` says, from ``first_seed`` on."""
    return range(settings.first_seed, settings.first_seed + settings.seeds)


def over_seeds(values: Sequence[float], digits: int = 1) -> str:
    """``mean ± half the width`` of the 95 % interval of the mean (Student's t); one value alone."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return f"{mean:.{digits}f}"
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def table(rows: Sequence[Row]) -> str:
    """Rows in columns, as Markdown."""
    columns = list(rows[0])
    cells = [columns, *[[_shown(row[column]) for column in columns] for row in rows]]
    widths = [max(len(line[j]) for line in cells) for j in range(len(columns))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
