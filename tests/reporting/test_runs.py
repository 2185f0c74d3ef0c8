"""`load_runs`: which folders are runs, what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equirl.errors import ConfigError
from equirl.reporting.runs import load_runs
from shared.written_runs import write_evaluations, write_run

STEPS, RETURNS = [100, 200], [1.0, 3.0]


def test_what_a_run_wrote_is_read(tmp_path: Path) -> None:
    seconds = [1.5, 2.5]
    write_run(tmp_path / "run", STEPS, RETURNS, method="equitune", seed=4, seconds=seconds)
    (run,) = load_runs([tmp_path / "run"]).runs
    assert (run.env, run.method, run.seed, run.finished) == ("task", "equitune", 4, True)
    assert run.steps.tolist() == STEPS
    assert run.returns.tolist() == RETURNS  # the mean over the episodes
    assert run.clocks["seconds"].tolist() == seconds
    assert run.clocks["cpu_seconds"].tolist() == [0.75, 1.25]
    assert run.total_timesteps == 200
    assert run.provenance["versions"]["torch"] == "2.13.0"


def test_folders_are_searched_and_a_run_named_twice_counts_once(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "deep" / "down" / str(seed), STEPS, RETURNS, seed=seed)
    write_run(tmp_path / ".hidden", STEPS, RETURNS)
    found = load_runs([tmp_path, tmp_path / "deep" / "down" / "1", str(tmp_path / "deep")])
    assert sorted(run.seed for run in found.runs) == [0, 1]
    assert found.left_out == []


def test_links_to_runs_are_followed_and_those_that_lead_back_are_not(tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere" / "1", STEPS, RETURNS, seed=1)
    write_run(tmp_path / "here" / "0", STEPS, RETURNS, seed=0)
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere" / "1")
    (tmp_path / "here" / "back").symlink_to(tmp_path / "here")
    found = load_runs([tmp_path / "here"])
    assert sorted(run.seed for run in found.runs) == [0, 1]


def test_unfinished_runs_are_left_out_and_named_unless_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path / "done", STEPS, RETURNS)
    write_run(tmp_path / "going", STEPS, RETURNS, seed=1, finished=False)
    write_run(tmp_path / "begun", STEPS, RETURNS, seed=2, finished=False)
    (tmp_path / "begun" / "evaluations.npz").unlink()
    found = load_runs([tmp_path])
    assert [run.seed for run in found.runs] == [0]
    assert [line.partition(":")[0] for line in found.left_out] == [
        str(tmp_path / "begun"),
        str(tmp_path / "going"),
    ]
    asked = load_runs([tmp_path], unfinished=True)
    assert [run.seed for run in asked.runs] == [0, 1]
    assert [run.finished for run in asked.runs] == [True, False]
    assert len(asked.left_out) == 1


def test_zero_shot_evaluations_are_a_curve_of_their_own(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STEPS, RETURNS, seed=3, seconds=[1, 2])
    write_evaluations(folder / "evaluations_zero_shot_equizero.npz", STEPS, [5, 6])
    write_evaluations(folder / "evaluations_zero_shot_lambda.npz", [50], [7])
    plain, equizero, other = load_runs([folder]).runs
    assert plain.method == "plain"
    assert equizero.method == "plain → equizero, zero-shot"
    assert (equizero.seed, equizero.returns.tolist()) == (3, [5, 6])
    # At the same steps the training took the same time; at others nobody knows.
    assert equizero.clocks["seconds"].tolist() == [1, 2]
    assert other.method == "plain → lambda, zero-shot"
    assert other.clocks == {}


def test_keys_that_an_older_version_did_not_know_have_their_defaults(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STEPS, RETURNS)
    config = folder / "config.yaml"
    lines = config.read_text().splitlines()
    config.write_text("\n".join(line for line in lines if "threshold_return" not in line))
    (run,) = load_runs([folder]).runs
    assert run.config["env.threshold_return"] is None


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def left_out(folder: Path) -> list[str]:
    """The lines for a run that is beside a whole one, which is read all the same."""
    whole = folder.with_name("whole")
    if not whole.exists():
        write_run(whole, STEPS, RETURNS)
    loaded = load_runs([folder, whole])
    assert [run.path for run in loaded.runs] == [whole]
    return loaded.left_out


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    for name in ("evaluations.npz", "config.yaml", "result.json", "provenance.json"):
        folder = write_run(tmp_path / name, STEPS, RETURNS)
        (folder / name).write_bytes(b"\x00{nonsense: [")
        (line,) = left_out(folder)
        assert str(folder / name) in line
        assert "\n" not in line
    folder = write_run(tmp_path / "cut", STEPS, RETURNS)
    cut_short(folder / "evaluations.npz")
    (line,) = left_out(folder)
    assert "damaged" in line


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"timesteps": [200, 100]}, "increase"),
        ({"timesteps": [100, 200, 300]}, "results"),
        ({"timesteps": []}, "at least one"),
        ({"timesteps": 3}, "at least one"),
        ({"timesteps": [0.5, 1.5]}, "whole"),
        ({"results": [[1.0], [np.nan]]}, "finite"),
        ({"results": [1.0, 2.0]}, "results"),
        ({"seconds": [1.0]}, "seconds"),
        ({"seconds": [1.0, np.inf]}, "seconds"),
        ({"results": [["a"], ["b"]]}, "damaged"),
    ],
)
def test_evaluations_that_are_none_are_left_out(
    tmp_path: Path, columns: dict[str, object], word: str
) -> None:
    folder = write_run(tmp_path / "run", STEPS, RETURNS)
    good = {"timesteps": STEPS, "results": [[1.0], [2.0]]}
    np.savez(folder / "evaluations.npz", **{k: np.asarray(v) for k, v in (good | columns).items()})
    (line,) = left_out(folder)
    assert word in line


def test_evaluations_that_would_run_code_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STEPS, RETURNS)
    np.savez(folder / "evaluations.npz", timesteps=np.array([print], object), results=[[1.0]])
    (line,) = left_out(folder)
    assert "damaged" in line


def test_a_path_without_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, words in {
        "empty": "no run directory",
        "file": "is not a folder",
        "nowhere": "does not exist",
    }.items():
        with pytest.raises(ConfigError, match=words):
            load_runs([tmp_path / name])
