"""``equirl benchmark``: every method beside stock DQN; numbers, plot, table, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from equirl.agents.families import FAMILIES
from equirl.commands.benchmark.cells import cells_of
from equirl.commands.benchmark.command import CHOICES
from equirl.commands.benchmark.plot import COLOURS, MARKERS
from equirl.configs.algorithms import ALGORITHMS
from equirl.configs.schema import BenchmarkConfig

METHODS = ["augment", "equitune", "lambda", "equizero", "canonical"]
TINY = (
    "rounds=1",
    "turn_seconds=0",
    "training_steps=48",
    "networks=[mlp-64-64]",
    "orders=[1,2]",
    "batch_sizes=[32]",
    "algorithm.net_arch=[8]",
    "algorithm.learning_starts=32",
    "algorithm.train_freq=16",
    "algorithm.gradient_steps=1",
    "algorithm.batch_size=8",
    "progress=false",
)
TIMED_BESIDE = {
    "training": ["stock", "equitune, {e}", *METHODS],
    "gradient_step": ["stock", *METHODS],
    "predict": ["stock", *METHODS],
    "memory": ["stock", *METHODS],
    "orbit": ["copy of that size", "orbit"],
}


class Run(NamedTuple):
    """What a benchmark printed and left behind."""

    out: str
    folder: Path
    report: dict[str, Any]

    def cells(self) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
        """The measurements of each cell, in order."""
        cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for measurement in self.report["measurements"]:
            cell = measurement["cell"]
            key = (cell["part"], cell["network"], cell["order"], cell["batch_size"])
            cells.setdefault(key, []).append(measurement)
        return cells


def run_benchmark(equirl_command: Callable[..., Any], folder: Path, *arguments: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "160")
        outcome = equirl_command("benchmark", *TINY, f"run_dir={folder}", *arguments)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return Run(outcome.out, folder, json.loads((folder / "benchmark.json").read_text()))


@pytest.fixture(scope="module")
def whole(equirl_command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every part and every method."""
    return run_benchmark(equirl_command, tmp_path_factory.mktemp("whole") / "deep" / "run")


@pytest.mark.long
def test_every_method_is_measured_in_every_cell(whole: Run) -> None:
    small = [
        (part, "mlp-64-64", order, 1 if part == "predict" else 32)
        for part in ("gradient_step", "predict", "memory")
        for order in (1, 2)
    ]
    orbits = [("orbit", "mlp-64-64", n, 32) for n in (1, 2)]
    cells = whole.cells()
    assert set(cells) == {("training", "cartpole_zoo", 2, 8), *small, *orbits}
    for key, measurements in cells.items():
        assert [m["method"] for m in measurements] == TIMED_BESIDE[key[0]]
    assert whole.report["left_out"] == []


def test_ratios_are_to_the_first_method_of_the_cell(whole: Run) -> None:
    for (part, *_), (first, *others) in whole.cells().items():
        unit = {"training": "steps/s", "memory": "MiB"}.get(part, "s")
        assert first["ratio"] == {"median": 1, "low": 1, "high": 1}
        for m in (first, *others):
            value, ratio = m["value"], m["ratio"]
            assert m["unit"] == unit
            assert value["low"] <= value["median"] <= value["high"]
            assert value["median"] > 0
            # In a single round, the median is of that round, and so is the ratio.
            assert ratio["median"] == pytest.approx(value["median"] / first["value"]["median"])


@pytest.mark.long
def test_quartiles_lie_around_the_median(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    run = run_benchmark(
        equirl_command,
        tmp_path / "run",
        "parts=[orbit,training]",
        "rounds=4",
        "orders=[2]",
        "batch_sizes=[1]",
        "methods=[equitune]",
    )
    spreads = [m[key] for m in run.report["measurements"] for key in ("value", "ratio")]
    assert all(s["low"] <= s["median"] <= s["high"] for s in spreads)
    assert any(s["low"] < s["high"] for s in spreads)


def test_memory_of_a_symmetric_network_is_at_least_that_of_stock(whole: Run) -> None:
    ratios = {
        m["method"]: m["ratio"]["median"] for m in whole.cells()["memory", "mlp-64-64", 2, 32]
    }
    assert ratios["equitune"] > 1
    trivial = {
        m["method"]: m["ratio"]["median"] for m in whole.cells()["memory", "mlp-64-64", 1, 32]
    }
    assert trivial["equitune"] == 1  # SB3's own code


def test_the_report_says_what_the_numbers_hold_for(whole: Run) -> None:
    machine, config = whole.report["machine"], whole.report["config"]
    assert set(machine) >= {"device", "threads", "equirl", "stable-baselines3", "torch", "python"}
    assert machine["threads"] == 1
    assert config["orders"] == [1, 2]
    assert config["rounds"] == 1
    assert config["algorithm"]["learning_starts"] == 32
    assert f"threads {machine['threads']}" in whole.out.splitlines()[0]


def test_the_numbers_and_the_plot_are_where_it_says(whole: Run) -> None:
    assert sorted(path.name for path in whole.folder.iterdir()) == ["benchmark.json", "cost.png"]
    assert (whole.folder / "cost.png").read_bytes().startswith(b"\x89PNG")
    assert f"numbers: {whole.folder / 'benchmark.json'}" in whole.out
    assert f"plot:    {whole.folder / 'cost.png'}" in whole.out


def test_a_table_of_every_part_is_printed(whole: Run) -> None:
    tables = whole.out.split("whole training")[1]
    for heading in (
        "one gradient step",
        "one greedy action",
        "the orbit of a batch",
        "peak memory",
    ):
        assert heading in tables
    (row,) = [line for line in whole.out.splitlines() if "equitune, {e}" in line]
    assert "steps/s" in row
    for method in METHODS:
        assert len([line for line in whole.out.splitlines() if f" {method} " in line]) == 7
    for measurement in whole.report["measurements"]:
        if measurement["unit"] == "MiB":
            assert f"{measurement['value']['median']:.2f} MiB" in whole.out
    for baseline, *others in whole.cells().values():
        assert len(others) > 0
        for ratio in (m["ratio"] for m in others):
            assert (
                f" {ratio['median']:.2f} ({ratio['low']:.2f} … {ratio['high']:.2f}) " in whole.out
            )
        rows = [row for row in whole.out.splitlines() if f" {baseline['method']} " in row]
        assert rows
        assert all(row.rstrip(" │").endswith(" 1") for row in rows)


@pytest.mark.long
def test_what_takes_too_long_is_left_out_and_said_to_be(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    run = run_benchmark(
        equirl_command, tmp_path / "run", "parts=[gradient_step,memory]", "cell_seconds=0"
    )
    left_out = [
        {"part": "gradient_step", "network": "mlp-64-64", "order": order, "batch_size": 32}
        for order in (1, 2)
    ]
    assert run.report["left_out"] == left_out
    assert {part for part, *_ in run.cells()} == {"memory"}
    for order in (1, 2):
        assert f"left out: gradient_step, mlp-64-64, |G| = {order}, batch 32 (about" in run.out
    assert "cell_seconds" in run.out
    assert not (run.folder / "cost.png").exists()  # there is nothing to draw
    assert "plot:" not in run.out


@pytest.mark.long
def test_only_the_parts_and_methods_asked_for_are_measured_in_their_order(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    run = run_benchmark(
        equirl_command,
        tmp_path / "run",
        "parts=[predict,gradient_step]",
        "methods=[canonical,equitune]",
        "orders=[8,2]",
        "batch_sizes=[4,2]",
    )
    assert list(run.cells()) == [
        ("predict", "mlp-64-64", 8, 1),
        ("predict", "mlp-64-64", 2, 1),
        ("gradient_step", "mlp-64-64", 8, 4),
        ("gradient_step", "mlp-64-64", 8, 2),
        ("gradient_step", "mlp-64-64", 2, 4),
        ("gradient_step", "mlp-64-64", 2, 2),
    ]
    for measurements in run.cells().values():
        assert [m["method"] for m in measurements] == ["stock", "canonical", "equitune"]
    assert (run.folder / "cost.png").exists()


@pytest.mark.parametrize(
    ("networks", "observed"),
    [
        (["mlp-64-64"], ["mlp-64-64"]),
        (["nature-cnn"], ["nature-cnn"]),
        (["mlp-256-256", "mlp-64-64"], ["mlp-256-256"]),
        (["nature-cnn", "mlp-64-64", "mlp-256-256"], ["nature-cnn", "mlp-64-64"]),
    ],
)
def test_orbits_are_of_the_observations_of_the_networks_asked_for_each_once(
    networks: list[str], observed: list[str]
) -> None:
    settings = BenchmarkConfig(
        parts=["orbit"], networks=networks, orders=[2], batch_sizes=[4], run_dir="run"
    )
    assert [cell.network for cell in cells_of(settings, 2)] == observed


def test_every_method_that_can_be_measured_is_drawn_in_a_colour_and_marker_of_its_own() -> None:
    assert set(COLOURS) == set(MARKERS) == set(CHOICES["methods"])
    assert len(set(COLOURS.values())) == len(set(MARKERS.values())) == len(COLOURS)


@pytest.mark.long
def test_training_in_another_environment_is_called_by_its_name(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    only = ("parts=[training]", "methods=[equitune]")
    named = run_benchmark(equirl_command, tmp_path / "named", *only, "env=acrobot")
    assert list(named.cells()) == [("training", "acrobot", 2, 8)]
    by_id = ("env=generic", "env.id=Acrobot-v1")
    run = run_benchmark(equirl_command, tmp_path / "by_id", *only, *by_id)
    ((_, network, order, batch_size),) = run.cells()
    assert (network, order, batch_size) == ("Acrobot-v1", 2, 8)


@pytest.mark.long
@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(name, marks=() if name in ("ppo", "sac") else pytest.mark.slow)
        for name in ALGORITHMS
        if name != "dqn"
    ],
)
def test_every_algorithm_is_measured_beside_its_own_stock(
    equirl_command: Callable[..., Any], tmp_path: Path, algorithm: str
) -> None:
    is_on_policy = FAMILIES[algorithm].is_on_policy
    length = ("n_steps=8",) if is_on_policy else ("learning_starts=8", "train_freq=8")
    tiny = (*length, "net_arch=[8]", *(() if algorithm == "a2c" else ("batch_size=8",)))
    outcome = equirl_command(
        "benchmark",
        f"algorithm={algorithm}",
        *(f"algorithm.{key}" for key in tiny),
        "parts=[training,gradient_step,predict]",
        "methods=[equitune]",
        "orders=[4]",
        "networks=[mlp-64-64]",
        "batch_sizes=[4]",
        "rounds=1",
        "turn_seconds=0",
        "training_steps=8",
        "progress=false",
        f"run_dir={tmp_path / 'run'}",
    )
    assert (outcome.code, outcome.err) == (0, ""), outcome
    report = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    env = "pendulum" if "Discrete" not in ALGORITHMS[algorithm].ACTIONS else "cartpole_zoo"
    found = {(m["cell"]["part"], m["cell"]["network"]) for m in report["measurements"]}
    assert found == {("training", env), *((p, "mlp-64-64") for p in ("gradient_step", "predict"))}
    assert {m["method"] for m in report["measurements"]} == {"stock", "equitune, {e}", "equitune"}


Refused = Callable[..., str]


@pytest.fixture
def refused(equirl_command: Callable[..., Any], folder: Path) -> Refused:
    """The one line with which it refuses, having written nothing."""

    def line(*arguments: str) -> str:
        before = contents(folder)
        outcome = equirl_command("benchmark", *TINY, "run_dir=run", *arguments)
        assert outcome.code == 2, outcome
        assert outcome.err.count("\n") == 1, outcome.err
        assert contents(folder) == before
        assert outcome.out == ""
        assert outcome.err.startswith("equirl benchmark: ")
        return str(outcome.err).strip().removeprefix("equirl benchmark: ")

    return line


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("parts=[nonsense]", ["parts", "training, gradient_step, predict", "'nonsense'"]),
        ("parts=[predict,predict]", ["parts", "predict more than once"]),
        ("methods=[equitun]", ["did you mean 'equitune'?"]),
        ("networks=[mlp-64]", ["networks", "mlp-64-64, mlp-256-256, nature-cnn", "'mlp-64'"]),
        ("orders=[3]", ["orders", "1, 2, 4, 8", "3"]),
        ("orders=[two]", ["orders", "whole number", "'two'"]),
        ("batch_sizes=[32,0]", ["batch_sizes", "at least 1"]),
        ("batch_sizes=32", ["batch_sizes", "a list"]),
        ("parts=[]", ["parts", "empty"]),
        ("rounds=0", ["rounds", "at least 1"]),
        ("training_steps=0", ["training_steps", "at least 1"]),
        ("turn_seconds=nan", ["turn_seconds"]),
        ("cell_seconds=-1", ["cell_seconds", "at least 0"]),
        ("threads=0", ["threads must be at least 1, got 0"]),
        ("env.id=Nonsense-v0", ["Nonsense"]),
        ("algorithm.batch_size=0", ["algorithm.batch_size must be at least 1, got 0"]),
        ("algorithm.policy=Nonsense", ["algorithm.policy must be one of MlpPolicy", "'Nonsense'"]),
        ("method=equitune", ["method"]),
        ("round=1", ["no such key 'round': did you mean 'rounds'?"]),
        ("run_dir=null", ["run_dir"]),
    ],
)
def test_wrong_values_are_refused_in_one_line(
    refused: Refused, argument: str, words: Sequence[str]
) -> None:
    line = refused(argument)
    assert all(word in line for word in words), line
