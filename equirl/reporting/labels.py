"""Which runs belong together: labels for environments and methods that tell apart what differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from equirl.configs.keys import HOW_IT_RUNS, OTHERS_DEFAULTS, WHICH_RUN
from equirl.reporting.measures import horizon_of
from equirl.reporting.runs import Run

ENVIRONMENT_KEYS = ("env.id", "env.kwargs", "env.wrappers", "env.frame_stack", "env.register")
"""What makes two environments different: returns in them cannot be compared."""

OF_NO_CONSEQUENCE = (
    *(*WHICH_RUN, *HOW_IT_RUNS, *OTHERS_DEFAULTS, "seed"),
    *("eval.final_episodes", "eval.zero_shot"),
    *(
        "check",
        "env.state_maps",
        "env.name",
        "env.install",
        "env.threshold_return",
        "algorithm.subprocess",
    ),
)
"""What does not change what is learned, or how it is measured."""

ALGORITHM = "algorithm.name"

USUAL = (
    *("plain", "equitune", "equizero", "lambda", "canonical"),
    *("augment", "mirror_loss", "native"),
)
"""The order of methods, and which look the same in every report; others follow."""


def labelled(runs: Sequence[Run]) -> list[Run]:
    """The runs, with labels such that no two configurations share one.

    Where runs of one environment and method differ in their configuration, the values that differ
    are added: ``lambda (init=equizero)``. Where those of one environment are of several algorithms,
    each has its own in its label, ``lambda (sac)``, and is told apart from those of it alone.
    Zero-shot curves are labelled after their training.
    """

    def renamed(run: Run, method: str) -> Run:
        return replace(run, method=method)

    told = _told_apart(
        runs, lambda run: run.env, is_environment_key, lambda run, env: replace(run, env=env)
    )
    algorithms = defaultdict(set)
    for run in told:
        algorithms[run.env].add(run.config.get(ALGORITHM))
    told = [
        renamed(run, f"{run.method} ({run.config.get(ALGORITHM)})")
        if len(algorithms[run.env]) > 1
        else run
        for run in told
    ]
    return _told_apart(
        told,
        lambda run: (run.env, run.method),
        lambda key: not is_environment_key(key) and key not in OF_NO_CONSEQUENCE,
        renamed,
    )


def without_twins(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Of curves with the same labels and seed the one begun last, of those that were finished if
    any was; and a line for each other run.

    They would count twice, or are of different agents, which cannot be compared.
    """
    newest: dict[tuple[str, str, int], Run] = {}

    def came(run: Run) -> tuple[bool, str, str]:
        return run.finished, run.provenance.get("started", ""), str(run.path)

    for run in sorted(runs, key=came):
        newest[run.env, run.method, run.seed] = run
    kept: list[Run] = []
    lines: dict[str, None] = {}
    for run in runs:
        last = newest[run.env, run.method, run.seed]
        if last is run:
            kept.append(run)
        elif last.config.get("pretrained") != run.config.get("pretrained"):
            lines[
                f"{run.path}: the same training as {last.path}, of another agent: report it alone"
            ] = None
        else:
            lines[f"{run.path}: the same run as {last.path}, which counts only once"] = None
    return kept, list(lines)


def in_order(runs: Iterable[Run], baseline: str) -> list[Run]:
    """By environment, method and seed; of methods the baseline comes first, then `USUAL`."""

    def place(run: Run) -> tuple[str, bool, int, str, int]:
        name = run.method.partition(" ")[0]
        usual = USUAL.index(name) if name in USUAL else len(USUAL)
        return run.env, run.method != baseline, usual, run.method, run.seed

    return sorted(runs, key=place)


def is_environment_key(key: str) -> bool:
    """Whether a dotted key says which environment it is."""
    return any(key == known or key.startswith(f"{known}.") for known in ENVIRONMENT_KEYS)


def unequal_settings(runs: Iterable[Run]) -> dict[str, list[Any]]:
    """What differs between the methods of one environment besides the methods themselves."""
    differing = differences([_compared(run) for run in runs])
    ignored = (*OF_NO_CONSEQUENCE, *ENVIRONMENT_KEYS)
    return {
        key: values
        for key, values in differing.items()
        if not key.startswith("method.") and not is_environment_key(key) and key not in ignored
    }


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values are not the same everywhere, with their values.

    Example:
        >>> differences([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}])
        {'b': [2, 3, None]}
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: list({str(c.get(key)): c.get(key) for c in configs}.values()) for key in keys}
    return {key: several for key, several in values.items() if len(several) > 1}


def _told_apart(runs: Sequence[Run], group: Any, counts: Any, relabel: Any) -> list[Run]:
    """Add to the label of each run what differs within its group."""
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[group(run)].append(run)
    differing = {
        key: [k for k in differences([_compared(run) for run in own]) if counts(k)]
        for key, own in groups.items()
    }
    told = []
    for run in runs:
        keys = differing[group(run)]
        name = group(run) if isinstance(group(run), str) else group(run)[-1]
        told.append(relabel(run, _with_values(name, _compared(run), keys)) if keys else run)
    return told


def _compared(run: Run) -> dict[str, Any]:
    """The configuration. Each seed begins with its own agent: ignore which."""
    began_with = run.config.get("pretrained")
    return {**run.config, "pretrained": began_with is not None}


def _with_values(name: str, config: Mapping[str, Any], keys: Sequence[str]) -> str:
    values = ", ".join(f"{key.rpartition('.')[2]}={config.get(key)}" for key in keys)
    return f"{name} ({values})"


def without_strays(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs that have evaluations in common, and a line for each other run.

    A run that ends before others are first evaluated has no point at which both are known. Of the
    short runs and the others the fewer are left out, and the short ones where there are as many.
    """
    kept, lines = list(runs), []
    for env in dict.fromkeys(run.env for run in runs):
        own = [run for run in kept if run.env == env]
        while late := [run for run in own if run.steps[0] > horizon_of(own)]:
            end = horizon_of(own)
            short = [run for run in own if horizon_of([run]) < late[0].steps[0]]
            if len(short) <= len(own) - len(short):
                out, first = short, min(run.steps[0] for run in own if run not in short)
                lines += [
                    f"{run.path}: ends after {horizon_of([run])} steps, where others of {env} are "
                    f"first evaluated after {first}"
                    for run in out
                ]
            else:
                out = late
                lines += [
                    f"{run.path}: first evaluated after {run.steps[0]} steps, where others of "
                    f"{env} end after {end}"
                    for run in out
                ]
            own = [run for run in own if run not in out]
            kept = [run for run in kept if run not in out]
    return kept, lines
