"""``equirl check``: verdicts, counter-examples, exit codes, and the report beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equirl.commands import main
from equirl.commands.found import _print_declaration
from shared.rarely import rarely

DECLARATIONS = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from equirl.envs.registry import register_symmetry
from equirl.envs.boards.grid_world import mirror_left_right, rotate_90
not_swapped = {"mirror": (np.negative, [0, 1])}
car = {"mirror": (np.negative, [2, 1, 0])}

class Line(gym.Env):
    # A walk along a line with a lamp that goes on and off.

    observation_space = spaces.Dict(x=spaces.Box(-99, 99, (1,)), lamp=spaces.Discrete(2))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.time = self.np_random.uniform(-1, 1), 0
        return self.observation(), {}

    def step(self, action):
        reward = float(np.cos(self.x))
        self.x += 2 * int(action) - 1
        self.time += 1
        return self.observation(), reward, self.time == 80, False, {}

    def observation(self):
        return {"x": np.array([self.x], np.float32), "lamp": self.time % 2}

class Film(gym.Env):
    # Two frames of a stripe that moves; only on the right is there a reward.

    observation_space = spaces.Box(0, 255, (2, 4, 6, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.column, self.time = int(self.np_random.integers(6)), 0
        return self.observation(), {}

    def step(self, action):
        self.column = int(np.clip(self.column + 2 * int(action) - 1, 0, 5))
        self.time += 1
        return self.observation(), float(self.column == 5), False, self.time == 20, {}

    def observation(self):
        frames = np.zeros((2, 4, 6, 3), np.uint8)
        frames[:, :, self.column] = 255
        return frames

film = {"mirror": (lambda s: s[:, :, ::-1], [1, 0])}
gym.register("Test/Film-v0", Film)

class Brittle(Line):
    def step(self, action):
        if self.x > 5:
            raise ValueError("the lamp\\n broke")
        return super().step(action)

gym.register("Test/Brittle-v0", Brittle)

def turn_round(line):
    line.x = -line.x

along = {"x": np.negative, "lamp": None}
line = {"mirror": (along, [1, 0])}
line_not_swapped = {"mirror": (along, [0, 1])}

line_maps = {"mirror": turn_round}
failing = {"mirror": lambda env: 1 / 0}
empty = {}

def register_line():
    gym.register("Test/DictLine-v0", Line)
    remark = "light: left as it is"
    maps = {"mirror": turn_round}
    register_symmetry("Test/DictLine-v0", line, state_maps=maps, remark=remark)

wrong_slash = {"r/2 [0]": (rotate_90, [1, 2, 3, 0])}
wrong_turn = {"r": (rotate_90, [1, 2, 3, 0]), "s": (mirror_left_right, [0, 3, 2, 1])}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "declared_for_check.py").write_text(DECLARATIONS)
    return tmp_path


def check(*arguments: str) -> int:
    """The exit code of ``equirl check``."""
    try:
        main(["check", "progress=false", "run_dir=out", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("env", rarely(["cartpole", "gridworld", "snake"], "gridworld"))
def test_a_true_symmetry_exits_with_zero_and_a_report(
    env: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(f"env={env}", "transitions=2000", "level=0.001") == 0
    assert "the symmetry holds" in capsys.readouterr().out
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["holds"] is True
    assert {v["quantity"] for v in report["verdicts"]} >= {"dynamics", "reward", "termination"}


def test_a_wrong_symmetry_exits_with_one_and_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = check("env=cartpole", "env.symmetry=declared_for_check:not_swapped", "transitions=2000")
    assert code == 1
    out = capsys.readouterr().out
    assert "NOT a symmetry" in out
    assert "next observation should be" in out
    report = json.loads((folder / "out" / "report.json").read_text())
    broken = [v for v in report["verdicts"] if not v["holds"] and v["quantity"] == "dynamics"]
    assert len(broken[0]["counter_example"]["expected"]) == 4


def test_an_environment_that_fails_is_no_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = "env.symmetry=declared_for_check:line"
    assert check("env.id=declared_for_check:Test/Brittle-v0", declared) == 4
    out, err = capsys.readouterr()
    assert "symmetry" not in out
    (line,) = err.splitlines()
    assert line.startswith("equirl check: no verdict: Test/Brittle-v0 failed in step(")
    assert "ValueError: the lamp broke (declared_for_check.py, line " in line
    assert not (folder / "out").exists()


def test_what_fails_otherwise_keeps_its_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equirl.commands.check.check_symmetry", lambda *_, **__: 1 / 0)
    assert check("env=cartpole") == 4
    *trace, line = capsys.readouterr().err.splitlines()
    assert "Traceback" in trace[0]
    assert (
        line == "equirl check: no verdict, since this failed: ZeroDivisionError: division by zero"
    )


TABLES = """
import numpy as np
from equirl.envs.registry import registered_state_maps
legs = [0, 1, 5, 6, 7, 2, 3, 4, 8, 9, 10, 14, 15, 16, 11, 12, 13]
actions = [3, 4, 5, 0, 1, 2]
maps = registered_state_maps("Walker2d-v5")
swapped = [0, 1, 5, 7, 6, 2, 4, 3, *legs[8:]]
right = {"legs": (legs, actions)}
swapped_pair = {"legs": (swapped, actions)}
wrong_sign = {"legs": (lambda s: s[legs] * np.where(np.arange(17) == 9, -1, 1), actions)}
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("table", "entries"),
    rarely(
        [("right", []), ("swapped_pair", [3, 4, 6, 7]), ("wrong_sign", [9])],
        ("right", []),
        ("wrong_sign", [9]),
    ),
)
def test_a_table_with_a_mistake_is_refused_with_the_entries_named(
    table: str, entries: list[int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco", reason="needs equirl[mujoco]")
    (folder / "robot_maps.py").write_text(TABLES)
    given = [f"env.symmetry=robot_maps:{table}", "env.state_maps=robot_maps:maps"]
    assert check("env.id=Walker2d-v5", *given, "transitions=2000") == (1 if entries else 0)
    named = re.findall(r"s'\[(\d+)\] ", capsys.readouterr().out)
    assert [int(entry) for entry in named] == entries


@pytest.mark.long
def test_a_wrong_symmetry_of_images_leaves_a_picture(folder: Path) -> None:
    code = check("env=gridworld", "env.symmetry=declared_for_check:wrong_turn", "transitions=2000")
    assert code == 1
    assert (folder / "out" / "r-dynamics.png").stat().st_size > 100


DICT_LINE = ["env.id=Test/DictLine-v0", "env.register=declared_for_check:register_line"]


@pytest.mark.slow
def test_a_refused_symmetry_of_stacked_images_leaves_a_report(folder: Path) -> None:
    keys = ("env.id=declared_for_check:Test/Film-v0", "env.symmetry=declared_for_check:film")
    assert check(*keys, "transitions=2000") == 1
    assert json.loads((folder / "out" / "report.json").read_text())["outcome"] == "refused"


@pytest.mark.long
def test_a_generator_may_have_any_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared = "env.symmetry=declared_for_check:wrong_slash"
    assert check("env=gridworld", declared, "transitions=2000") == 1
    assert "r/2 [0]" in capsys.readouterr().out
    assert (folder / "out" / "r-2 [0]-dynamics.png").is_file()


def test_dict_observations_are_compared_exactly(folder: Path) -> None:
    assert check(*DICT_LINE, "transitions=2000") == 0
    report = json.loads((folder / "out" / "report.json").read_text())
    found = {v["quantity"]: (v["method"], v["looked_at"] > 20) for v in report["verdicts"]}
    assert found.pop("initial states") == ("statistical", True)
    assert set(found.values()) == {("exact", True)}


@pytest.mark.long
def test_a_wrong_symmetry_of_dicts_exits_with_one_and_numbers_by_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = "env.symmetry=declared_for_check:line_not_swapped"
    assert check(*DICT_LINE, wrong, "transitions=2000") == 1
    out = capsys.readouterr().out
    assert "NOT a symmetry" in out
    assert re.search(r"x\[0\] -?[\d.]+, is -?[\d.]+", out)
    assert "lamp" not in out.partition("next observation should be")[2]  # which does not differ


def test_a_black_box_is_checked_statistically(capsys: pytest.CaptureFixture[str]) -> None:
    car = ("env.id=MountainCar-v0", "env.symmetry=declared_for_check:car")
    assert check(*car, "transitions=2000") == 1
    assert "statistical" in capsys.readouterr().out


def test_state_maps_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["env.symmetry=declared_for_check:line", "env.state_maps=declared_for_check:line_maps"]
    assert check(*DICT_LINE, *given, "transitions=2000") == 0
    assert "exact" in capsys.readouterr().out


def test_what_a_state_map_leaves_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    check(*DICT_LINE, "transitions=2000")
    assert "light: left as it is" in capsys.readouterr().out


@pytest.mark.slow
def test_what_the_state_map_of_the_walker_leaves_out_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("Box2D", reason='needs pip install "equirl[box2d]"')
    assert check("env=bipedalwalker", "transitions=2000") == 0
    out = capsys.readouterr().out
    assert "the order in which Box2D solves" in out
    assert "the symmetry holds" in out


def test_an_empty_declaration_is_undecided(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("env=cartpole", "env.symmetry=declared_for_check:empty") == 3
    assert "nothing to check" in capsys.readouterr().out


@pytest.mark.long
def test_what_there_is_no_time_for_is_undecided(folder: Path) -> None:
    declared = "env.symmetry=declared_for_check:car"
    assert check("env.id=MountainCar-v0", declared, "budget=0.05") == 3
    assert json.loads((folder / "out" / "report.json").read_text())["outcome"] == "undecided"


@pytest.mark.long
def test_discovery_prints_a_declaration_that_can_be_pasted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check("env=cartpole", "discover=true", "transitions=3000") == 0
    assert '"mirror": ([-1, -1, -1, -1], [1, 0])' in capsys.readouterr().out


def test_a_declaration_that_needs_numpy_imports_it(capsys: pytest.CaptureFixture[str]) -> None:
    _print_declaration({"turn": (np.array([[0.0, -1.0], [1.0, 0.0]]), [1, 0])})
    pasted: dict[str, Any] = {}
    exec(capsys.readouterr().out, pasted)
    np.testing.assert_array_equal(pasted["symmetry"]["turn"][0], [[0, -1], [1, 0]])


def test_what_is_not_found_is_not_said_to_be_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("env.id=MountainCar-v0", "discover=true", "transitions=2000") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "does not say that there is none" in out
    assert "Play proposed none" in out
    assert json.loads((folder / "out" / "report.json").read_text())["unconfirmed"] == []


@pytest.mark.long
def test_a_refused_candidate_is_named_with_its_p_value_and_its_map(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # So strict a level that the true mirror is refused both times.
    assert check("env=cartpole", "discover=true", "transitions=2000", "level=0.999") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "does not say that there is none" in out
    assert re.search(r"candidate 1, refused with p = \d\S* for \w+, on fresh play refused", out)
    assert "s[0] → -s[0], s[1] → -s[1]" in out
    assert "actions 0 → 1, 1 → 0" in out
    assert "seed=1" in out
    (one,) = json.loads((folder / "out" / "report.json").read_text())["unconfirmed"]
    assert one["observations"] == "[-1, -1, -1, -1]"
    assert len(one["p_values"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env=cartpole", "transitions=10"], "transitions must be at least 2000"),
        (["env=cartpole", "level=2"], "level must be between 0 and 1"),
        (["env=cartpole", "budget=0"], "budget must be above 0"),
        (["env=cartpole", "env.state_maps=declared_for_check:car"], "must be a dict of functions"),
        (["env=cartpole", "env.state_maps=declared_for_check:failing"], "the state map of mirror"),
        (["env.id=MountainCar-v0"], "no symmetry is known for MountainCar-v0"),
        ([], "which environment?"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "out").exists()


@pytest.mark.long
def test_discovery_in_the_model_prints_a_declaration_that_can_be_pasted(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco", reason="needs equirl[mujoco]")
    import gymnasium as gym

    from equirl import Symmetry
    from equirl.envs.mujoco import symmetry_of_mujoco

    assert check("env.id=Walker2d-v5", "discover=model") == 0
    out = capsys.readouterr().out
    assert re.search(r"thigh_joint +thigh_left_joint +\+", out)
    pasted: dict[str, object] = {"np": np}
    exec(out[out.index("symmetry = {") :], pasted)
    env = gym.make("Walker2d-v5")
    spaces = env.observation_space, env.action_space
    assert Symmetry.from_generators(*spaces, pasted["symmetry"]) == symmetry_of_mujoco(env)
    monkeypatch.syspath_prepend(folder)
    declaration = f"import numpy as np\n{out[out.index('symmetry = {') :]}"
    (folder / "pasted.py").write_text(declaration)
    walker = "env.id=Walker2d-v5", "transitions=2000"
    assert check(*walker, "env.symmetry=pasted:symmetry") == 0
    assert "exact" in capsys.readouterr().out  # though the generator has a name of its own


def test_show_prints_what_becomes_of_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("env=cartpole", "show=true") == 0
    assert re.search(r"\[3\] +\[3\] +-", capsys.readouterr().out)


def test_discovery_is_of_one_of_two_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("env=cartpole", "discover=maybe") == 2
    assert "maybe" in capsys.readouterr().err
