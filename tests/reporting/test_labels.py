"""Runs of different configurations are never pooled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equirl.reporting.labels import (
    in_order,
    labelled,
    unequal_settings,
    without_strays,
    without_twins,
)
from equirl.reporting.runs import Run, load_runs
from shared.written_runs import write_evaluations, write_run


def runs_with(tmp_path: Path, *differing: dict[str, Any]) -> list[Run]:
    """A run for each of these changes to one configuration; ``seed`` and ``method`` included."""
    for i, changes in enumerate(differing):
        own = {key: changes[key] for key in ("seed", "method", "env") if key in changes}
        changed = {key: value for key, value in changes.items() if key not in own}
        write_run(tmp_path / str(i), [100], [1], **own, changed=changed)
    return load_runs([tmp_path / str(i) for i in range(len(differing))]).runs


def test_what_differs_within_a_method_is_in_its_label(tmp_path: Path) -> None:
    runs = runs_with(
        tmp_path,
        {"method": "lambda", "method.init": "equitune"},
        {"method": "lambda", "method.init": "equizero"},
        {"method": "lambda", "method.init": "equizero", "seed": 1},
        {"method": "plain"},
    )
    assert [run.method for run in labelled(runs)] == [
        "lambda (init=equitune)",
        "lambda (init=equizero)",
        "lambda (init=equizero)",
        "plain",
    ]


def test_algorithms_are_told_apart_by_their_names_alone(tmp_path: Path) -> None:
    settings = [("ppo", 0.1), ("sac", 0.5), ("sac", 0.5), ("sac", 0.1)]
    methods = ("plain", "plain", "lambda", "lambda")
    runs = [
        replace(run, config={**run.config, "algorithm.name": name, "algorithm.tau": tau})
        for run, (name, tau) in zip(
            runs_with(tmp_path, *({"method": method} for method in methods)), settings, strict=True
        )
    ]
    assert [run.method for run in labelled(runs)] == [
        "plain (ppo)",
        "plain (sac)",
        "lambda (sac) (tau=0.5)",
        "lambda (sac) (tau=0.1)",
    ]


def test_hyper_parameters_and_length_keep_runs_apart(tmp_path: Path) -> None:
    runs = runs_with(
        tmp_path, {}, {"seed": 1, "algorithm.tau": 0.5}, {"seed": 2, "total_timesteps": 700}
    )
    labels = [run.method for run in labelled(runs)]
    assert labels == [
        "plain (tau=1.0, total_timesteps=100)",
        "plain (tau=0.5, total_timesteps=100)",
        "plain (tau=1.0, total_timesteps=700)",
    ]


def test_what_does_not_change_the_learning_keeps_nothing_apart(tmp_path: Path) -> None:
    runs = runs_with(
        tmp_path,
        {},
        {"seed": 1, "device": "cuda", "threads": 4, "checkpoint_every": 7, "progress": False},
    )
    assert [run.method for run in labelled(runs)] == ["plain", "plain"]


def test_seeds_that_began_with_agents_of_their_own_are_one_method(tmp_path: Path) -> None:
    runs = runs_with(
        tmp_path,
        {"pretrained": "a.zip"},
        {"pretrained": "b.zip", "seed": 1},
        {"seed": 2},
    )
    assert [run.method for run in labelled(runs)] == [
        "plain (pretrained=True)",
        "plain (pretrained=True)",
        "plain (pretrained=False)",
    ]


def test_different_environments_under_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = runs_with(tmp_path, {"env.kwargs.size": 5}, {"env.kwargs.size": 7, "method": "lambda"})
    assert [run.env for run in labelled(runs)] == ["task (size=5)", "task (size=7)"]
    assert [run.method for run in labelled(runs)] == ["plain", "lambda"]


def test_zero_shot_curves_are_told_apart_with_their_trainings(tmp_path: Path) -> None:
    runs_with(tmp_path, {"algorithm.gamma": 0.9}, {"algorithm.gamma": 0.8})
    for i in (0, 1):
        write_evaluations(tmp_path / str(i) / "evaluations_zero_shot_equitune.npz", [100], [2])
    labels = {run.method for run in labelled(load_runs([tmp_path]).runs)}
    assert "plain → equitune, zero-shot (gamma=0.9)" in labels
    assert len(labels) == 4


def test_of_the_same_run_done_twice_the_last_counts_with_its_zero_shot_curves(
    tmp_path: Path,
) -> None:
    for name, started in (("a", "2026-02-02"), ("b", "2026-01-01")):
        folder = write_run(
            tmp_path / name, [100], [1], seed=5, provenance={"started": f"{started}T10:00:00"}
        )
        write_evaluations(folder / "evaluations_zero_shot_lambda.npz", [100], [2])
    write_run(tmp_path / "c", [100], [1], seed=6)
    kept, lines = without_twins(labelled(load_runs([tmp_path]).runs))
    assert [run.path.name for run in kept] == ["a", "a", "c"]
    assert lines == [f"{tmp_path / 'b'}: the same run as {tmp_path / 'a'}, which counts only once"]


def test_a_run_done_again_but_broken_off_does_not_replace_a_finished_one(tmp_path: Path) -> None:
    for name, started, is_finished in (("a", "2026-01-01", True), ("b", "2026-02-02", False)):
        provenance = {"started": f"{started}T10:00:00"}
        write_run(tmp_path / name, [100], [1], provenance=provenance, finished=is_finished)
    kept, lines = without_twins(labelled(load_runs([tmp_path], unfinished=True).runs))
    assert [run.path.name for run in kept] == ["a"]
    assert len(lines) == 1


def test_a_run_done_again_without_zero_shot_curves_counts_once(tmp_path: Path) -> None:
    for name, started in (("first", "2026-01-01"), ("again", "2026-02-02")):
        provenance = {"started": f"{started}T10:00:00"}
        write_run(tmp_path / name, [100], [1], seed=5, provenance=provenance)
    write_evaluations(tmp_path / "first" / "evaluations_zero_shot_equitune.npz", [100], [2])
    kept, lines = without_twins(labelled(load_runs([tmp_path]).runs))
    assert {run.method: run.path.name for run in kept} == {
        "plain": "again",
        "plain → equitune, zero-shot": "first",
    }
    assert len(kept) == 2
    assert len(lines) == 1


def test_settings_that_methods_do_not_share_are_found(tmp_path: Path) -> None:
    runs = runs_with(tmp_path, {"algorithm.tau": 0.5}, {"method": "lambda", "algorithm.tau": 0.25})
    assert unequal_settings(runs) == {"algorithm.tau": [0.5, 0.25]}


def test_the_baseline_comes_first_and_known_methods_in_their_order(tmp_path: Path) -> None:
    runs = runs_with(tmp_path, *({"method": m} for m in ("native", "lambda", "plain", "augment")))
    runs = [replace(run, method=run.method.replace("native", "zzz")) for run in runs]
    assert [run.method for run in in_order(runs, "augment")] == [
        "augment",
        "plain",
        "lambda",
        "zzz",
    ]


def test_the_same_training_of_different_agents_is_not_pooled(tmp_path: Path) -> None:
    runs_with(tmp_path, {"pretrained": "a.zip"}, {"pretrained": "b.zip"})
    (kept,), (line,) = without_twins(labelled(load_runs([tmp_path]).runs))
    assert kept.path == tmp_path / "1"
    assert line.startswith(f"{tmp_path / '0'}: the same training as {kept.path}, of another agent")


@pytest.mark.parametrize(
    ("ends", "out"),
    [
        ([300, 3000], "0"),  # equally many: the short one
        ([300, 3000, 3000], "0"),
        ([300, 300, 300, 3000], "3"),
    ],
)
def test_runs_that_have_no_step_in_common_with_most_are_left_out(
    tmp_path: Path, ends: list[int], out: str
) -> None:
    for i, end in enumerate(ends):
        write_run(tmp_path / str(i), [end - 100, end], [0, 1], seed=i)
    kept, (line,) = without_strays(load_runs([tmp_path]).runs)
    assert len(kept) == len(ends) - 1
    assert line.startswith(f"{tmp_path / out}: ")
    assert "300" in line
    assert "2900" in line
