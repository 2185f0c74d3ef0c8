"""From run directories to a summary, with curves whose numbers are known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from equirl.errors import ConfigError
from equirl.reporting import Analysis, analyse, load_runs, write_report
from shared.written_runs import write_run

STEPS = [100, 200, 300, 400, 500]
REACHED_AT = {"plain": (400, 200), "lambda": (100, 200)}


def steps_up(at: int, top: float = 10) -> list[float]:
    """Returns of 0, and from that step on of 10."""
    return [top if step >= at else 0 for step in STEPS]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods, two seeds; a second takes 100 steps, and 50 with lambda."""
    for method, at in REACHED_AT.items():
        for seed, step in enumerate(at):
            seconds = np.array(STEPS) / (100 if method == "plain" else 50)
            write_run(
                tmp_path / f"{method}-{seed}",
                STEPS,
                steps_up(step),
                method=method,
                seed=seed,
                seconds=seconds,
                changed={"env.threshold_return": 10},
            )
    return tmp_path


def analysis_of(folder: Path, **arguments: Any) -> Analysis:
    runs = load_runs([folder], arguments.pop("unfinished", False))
    return analyse(runs, **{"reps": 20, **arguments})


def row(analysis: Analysis, method: str, measure: str) -> pd.Series:
    frame = analysis.summary
    frame = frame[(frame.method == method) & (frame.measure == measure)]
    assert len(frame) == 1
    return frame.iloc[0]


def test_times_to_the_threshold_and_their_ratios(runs: Path) -> None:
    analysis = analysis_of(runs, reps=100)
    assert row(analysis, "plain", "steps_to_threshold").point == 300
    assert row(analysis, "lambda", "steps_to_threshold").point == 150
    assert row(analysis, "plain", "seconds_to_threshold").point == 3
    assert row(analysis, "lambda", "cpu_seconds_to_threshold").point == 1.5
    steps, seconds = (row(analysis, "lambda", f"{c}_ratio") for c in ("steps", "seconds"))
    assert (steps.point, seconds.point) == (0.5, 1)
    # Of two seeds each, resampling finds 100/400 at the least and 200/200 at the most.
    assert (steps.low, steps.high) == (0.25, 1)
    assert (steps.bound, steps.seeds, steps.reached) == ("", 2, 2)
    own = row(analysis, "plain", "steps_ratio")
    assert (own.point, own.low, own.high) == (1, 1, 1)
    assert analysis.notes == []


def test_area_final_and_best(runs: Path) -> None:
    analysis = analysis_of(runs, reps=100)
    # A rise from 0 to 10 between two evaluations counts half of the 100 steps.
    plain = [(10 * 100 + 5 * 100) / 500, (10 * 300 + 5 * 100) / 500]
    assert row(analysis, "plain", "area").point == pytest.approx(np.mean(plain))
    assert row(analysis, "plain", "area").low == pytest.approx(plain[0])
    assert row(analysis, "plain", "area").high == pytest.approx(plain[1])
    assert row(analysis, "plain", "final").point == 10
    assert row(analysis, "plain", "best").point == 10


def test_curves_are_means_with_bands_against_steps_and_seconds(runs: Path) -> None:
    curves = analysis_of(runs, reps=100).curves
    own = curves[(curves.method == "plain") & (curves.clock == "steps")]
    assert own["at"].tolist() == STEPS
    assert own["mean"].tolist() == [0, 5, 5, 10, 10]
    assert own.low.tolist() == [0, 0, 0, 10, 10]
    assert own.high.tolist() == [0, 10, 10, 10, 10]
    against = curves[(curves.method == "plain") & (curves.clock == "seconds")]
    at_3 = np.interp(3, against["at"], against["mean"])
    assert against["at"].max() == 5
    assert at_3 == pytest.approx(5, abs=0.2)  # on a grid that does not hit it


@pytest.mark.parametrize(
    ("plain", "other", "ratio", "bound"),
    [
        (200, 999, 2.5, "≥"),  # 500 at the least, over 200
        (999, 100, 0.2, "≤"),
        (999, 999, 1.0, "≷"),
        (200, 200, 1.0, ""),
    ],
)
def test_runs_that_never_got_there_give_bounds(
    tmp_path: Path, plain: int, other: int, ratio: float, bound: str
) -> None:
    for method, at in (("plain", plain), ("lambda", other)):
        for seed in (0, 1):
            write_run(tmp_path / f"{method}{seed}", STEPS, steps_up(at), method=method, seed=seed)
    analysis = analysis_of(tmp_path, threshold=10)
    found = row(analysis, "lambda", "steps_ratio")
    assert (found.point, found.bound) == (ratio, bound)
    assert found.reached == (0 if other == 999 else 2)
    time = row(analysis, "lambda", "steps_to_threshold")
    assert time.bound == ("≥" if other == 999 else "")


@pytest.mark.long
def test_a_threshold_can_be_given_for_one_environment(runs: Path) -> None:
    write_run(runs / "other", STEPS, steps_up(200), env="other")
    analysis = analysis_of(runs, threshold={"other": 3})
    thresholds = analysis.measures.groupby("env").threshold.first()
    assert thresholds.to_dict() == {"other": 3, "task": 10}
    with pytest.raises(ConfigError, match="no runs of nothing"):
        analysis_of(runs, threshold={"nothing": 3})


@pytest.fixture
def mazes(tmp_path: Path) -> Path:
    """Two environments of one name, told apart by an argument."""
    for delta in (-1, 1):
        changed = {"env.kwargs": {"delta": delta}}
        write_run(tmp_path / f"{delta}", STEPS, steps_up(200), env="maze", changed=changed)
    return tmp_path


def test_a_name_stands_for_all_environments_that_bear_it_but_those_named_themselves(
    mazes: Path,
) -> None:
    given = {"maze": 3, "maze (delta=1)": 5}
    thresholds = analysis_of(mazes, threshold=given).measures.groupby("env").threshold.first()
    assert thresholds.to_dict() == {"maze (delta=-1)": 3, "maze (delta=1)": 5}


def test_the_thresholds_environments_are_listed_as_the_command_line_takes_them(mazes: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        analysis_of(mazes, threshold={"maize": 3})
    override = str(refusal.value).partition("command line '")[2].removesuffix("'")
    parsed: Any = OverridesParser.create().parse_override(override.replace("…", "5")).value()
    assert [str(name) for name in parsed] == ["maze (delta=-1)", "maze (delta=1)"]


def test_a_label_that_no_command_line_can_say_is_not_spelt(tmp_path: Path) -> None:
    for wrapper in ("m:A", "m:B"):
        write_run(tmp_path / wrapper, STEPS, steps_up(200), changed={"env.wrappers": [wrapper]})
    with pytest.raises(ConfigError, match=r"\(only task \(wrappers=\['m:A'\]\), .*\)$"):
        analysis_of(tmp_path, threshold={"tusk": 3})


def test_without_a_threshold_there_are_no_times_and_a_note_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "run", STEPS, steps_up(300))
    analysis = analysis_of(tmp_path)
    assert not analysis.summary.measure.str.contains("threshold|ratio").any()
    assert any("task has no threshold return" in note for note in analysis.notes)


def test_runs_that_disagree_on_the_threshold_are_refused(runs: Path) -> None:
    write_run(runs / "2", STEPS, steps_up(200), seed=2, changed={"env.threshold_return": 9})
    with pytest.raises(ConfigError, match=r"\(9, 10\): say threshold="):
        analysis_of(runs)
    assert len(analysis_of(runs, threshold=10).runs) == 5


def test_clocks_that_some_runs_lack_are_left_out_with_a_note(runs: Path) -> None:
    write_run(runs / "2", STEPS, steps_up(200), seed=2, changed={"env.threshold_return": 10})
    analysis = analysis_of(runs)
    measures = analysis.summary[analysis.summary.method == "plain"].measure
    assert "seconds_to_threshold" not in set(measures)
    assert "seconds_ratio" not in set(analysis.summary.measure)
    assert row(analysis, "lambda", "seconds_to_threshold").point == 3
    assert any("no seconds were recorded for plain" in note for note in analysis.notes)


def test_a_baseline_that_is_not_there_is_refused_unless_it_is_the_usual_one(runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run of 'foo' \(there are: lambda, plain\)"):
        analysis_of(runs, baseline="foo")
    analysis = analysis_of(runs, baseline="lambda")
    assert row(analysis, "plain", "steps_ratio").point == 2
    for seed in (0, 1):
        (runs / f"plain-{seed}" / "result.json").unlink()
    analysis = analysis_of(runs)
    assert any("no run of the baseline 'plain'" in note for note in analysis.notes)
    assert not analysis.summary.measure.str.contains("ratio").any()


def test_of_several_baselines_one_must_be_chosen(runs: Path) -> None:
    write_run(runs / "b", STEPS, steps_up(100), changed={"algorithm.gamma": 0.5}, seed=1)
    with pytest.raises(ConfigError, match=r"several 'plain'.*plain \(gamma=0.5\)"):
        analysis_of(runs, threshold=10)
    analysis = analysis_of(runs, threshold=10, baseline="plain (gamma=0.5)")
    assert row(analysis, "lambda", "steps_ratio").point == 1.5


def test_runs_of_unequal_length_are_compared_over_the_shortest_with_a_note(runs: Path) -> None:
    write_run(
        runs / "short", STEPS[:3], [0, 0, 5], method="equitune", changed={"algorithm.tau": 0.5}
    )
    analysis = analysis_of(runs, threshold=10)
    assert set(analysis.measures.horizon) == {300}
    assert row(analysis, "plain", "steps_to_threshold").point == 250  # one of them at the least 300
    notes = " ".join(analysis.notes)
    assert "runs of 300, 500 steps are compared over 300" in notes
    assert "algorithm.tau (1.0, 0.5)" in notes


@pytest.mark.parametrize(
    ("step", "planned", "is_noted"), [(200, 200, 1), (200, 500, 0), (0, 200, 0)]
)
def test_runs_that_were_lengthened_when_resumed_are_noted(
    runs: Path, step: int, planned: int, is_noted: int
) -> None:
    provenance = json.loads((runs / "plain-0" / "provenance.json").read_text())
    provenance["resumed"] = [{"step": step, "planned": planned}]
    (runs / "plain-0" / "provenance.json").write_text(json.dumps(provenance))
    noted = [line for line in analysis_of(runs).notes if "when they were resumed" in line]
    assert len(noted) == is_noted
    assert all("1 of 4 runs" in line for line in noted)


@pytest.mark.parametrize(("target", "by"), [(9, "reaching a target return"), (None, "a callback")])
def test_what_ended_a_curve_early_is_noted(tmp_path: Path, target: int | None, by: str) -> None:
    for seed, steps in enumerate((STEPS[:3], STEPS)):
        folder, changed = tmp_path / f"{seed}", {"env.target_return": target}
        write_run(folder, steps, steps, seed=seed, total_timesteps=500, changed=changed)
    (line,) = [line for line in analysis_of(tmp_path).notes if "before their last step" in line]
    assert line.startswith("task: 1 of 2 curves ")
    assert by in line
    assert ("target return" in line) == (target is not None)


@pytest.mark.long
def test_unfinished_runs_are_reported_as_far_as_they_came(runs: Path) -> None:
    (runs / "plain-0" / "result.json").unlink()
    assert len(analysis_of(runs).runs) == 3
    assert len(analysis_of(runs).left_out) == 1
    assert len(analysis_of(runs, unfinished=True).runs) == 4


def test_no_run_at_all_is_refused_with_the_reasons(tmp_path: Path) -> None:
    write_run(tmp_path / "run", STEPS, steps_up(100), finished=False)
    with pytest.raises(ConfigError, match=r"no run to report on; .*not finished"):
        analysis_of(tmp_path)


@pytest.mark.parametrize(
    ("plain", "other", "said"),
    [
        ([400, 400, 400], [100, 100, 100], "learns faster than plain (0.25 times the steps"),
        ([100, 100, 100], [400, 400, 400], "learns slower than plain (4.00 times the steps"),
        ([100, 200, 300], [100, 200, 300], "neither faster nor slower than plain, as far as 3"),
        ([200, 200, 200], [999, 999, 999], "learns slower than plain (≥2.50 times the steps"),
        ([999, 999, 999], [999, 100, 999], "one of its runs is better with probability 0.67"),
        ([400], [100], "one seed says little, train ten"),
        # One that begins above the threshold, so that there is no ratio of steps.
        ([0, 100, 100], [400, 400, 400], "there is neither a ratio of steps nor a scale"),
    ],
)
def test_the_verdict_says_in_words_what_the_intervals_allow(
    tmp_path: Path, plain: list[int], other: list[int], said: str
) -> None:
    for method, ats in (("plain", plain), ("lambda", other)):
        for seed, at in enumerate(ats):
            steps = STEPS if at else [0, *STEPS[1:]]
            write_run(tmp_path / f"{method}{seed}", steps, steps_up(at), method=method, seed=seed)
    (line,) = analysis_of(tmp_path, threshold=10).verdicts
    assert line.startswith("task: lambda ")
    assert said in line


def test_environments_without_a_common_method_are_not_put_together(tmp_path: Path) -> None:
    write_run(tmp_path / "a", STEPS, steps_up(300))
    write_run(tmp_path / "b", STEPS, steps_up(300), env="other", method="lambda")
    analysis = analysis_of(tmp_path)
    assert not analysis.are_aggregated
    assert analysis.verdicts == [
        "other: nothing to compare, there are only runs of lambda",
        "task: nothing to compare, there are only runs of plain",
    ]
    write_report(analysis, tmp_path / "report")
    assert not (tmp_path / "report" / "iqm-final.svg").exists()


def test_runs_in_which_nothing_was_learned_can_be_reported(tmp_path: Path) -> None:
    write_run(tmp_path / "a", STEPS, [3] * 5)
    analysis = analysis_of(tmp_path)
    assert row(analysis, "plain", "area").point == 3
    write_report(analysis, tmp_path / "report")
    assert "task has no scale" in (tmp_path / "report" / "report.md").read_text()
