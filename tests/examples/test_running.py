"""Settings of the examples: what is given wins, and a mistake ends in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from running import main, need, over_seeds

EXAMPLES = Path(__file__).parents[2] / "examples"


def echo(settings: Any) -> list[dict[str, Any]]:
    return [{"steps": settings.steps, "names": list(settings.names)}]


def test_what_is_given_replaces_quick_and_that_the_defaults(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    defaults, quick = {"steps": 9, "names": ["a"]}, {"steps": 3, "names": ["b"]}
    assert main(echo, defaults, quick, ["--quick", "steps=4", f"out={out}"]) == 0
    assert json.loads(out.read_text())["rows"] == [{"steps": 4, "names": ["b"]}]


def test_nothing_behind_the_equals_sign_is_an_empty_text(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert (
        main(lambda settings: [{"name": settings.name}], {"name": "a"}, {}, ["name=", f"out={out}"])
        == 0
    )
    assert json.loads(out.read_text())["rows"] == [{"name": ""}]


@pytest.mark.parametrize(
    "wrong",
    [
        "stepz=3",
        "steps=many",
        "names=a",
        "names=[1]",
        "steps=-1",
        "steps=true",
        "threads=0",
        "first_seed=4294967296",
        "out=.",
        "steps",
        "device=nowhere",
        "device=cuda:99",
        "out=no/such/folder.json",
    ],
)
def test_a_wrong_setting_is_one_line_and_code_2(wrong: str, capsys: Any) -> None:
    assert main(echo, {"steps": 9, "names": ["a"]}, {}, [wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_package_is_one_line_and_code_2(capsys: Any) -> None:
    assert main(lambda settings: need("no_such_package"), {}, {}, []) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "no_such_package" in line


@pytest.mark.slow
def test_an_example_is_run_as_a_script_from_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "scan" / "run.py", "split=add_jmp"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "add_jump" in ended.stderr


def test_the_interval_is_students() -> None:
    assert over_seeds([1.0, 2.0, 3.0]) == "2.0 ± 2.5"  # 4.303 · 1 / √3
    assert over_seeds([5.0]) == "5.0"
