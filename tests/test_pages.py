"""Every snippet of the README, the tutorials and the how-to pages runs, with training cut short.

The cells are those of the notebooks that the site offers (`docs/hooks.py`).
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from stable_baselines3 import DQN

from equirl.commands import main
from equirl.envs import registry
from fuzz.composed_once import files_composed_once
from shared.rarely import rarely

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT / "docs"))
    for folder in ("tutorials", "how_to")
    for path in (ROOT / "docs" / folder).glob("*.md")
    if path.name != "own_environment.md"  # tests/examples/test_own_environment.py runs it
)
SHORT = {
    "train": ["total_timesteps=200", "eval.every=200", "eval.final_episodes=2"],
    "evaluate": ["episodes=2"],
    "transfer": ["episodes=2", "stage=zero_shot"],
    "check": ["transitions=2000", "run_dir=runs/check"],
    "report": ["reps=100"],
    "export": [],
}


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """`docs/hooks.py`, which is no part of a package."""
    pytest.importorskip("mkdocs", reason="the site needs pip install 'equirl[docs]'")
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with an agent in it; what is registered, other tests do not find."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    DQN("MlpPolicy", "Acrobot-v1", buffer_size=1, device="cpu").save("dqn_acrobot")
    with files_composed_once():
        yield tmp_path


def code(hooks: ModuleType, page: str, shell: bool) -> list[str]:
    found = [text for kind, text in hooks.cells(page) if kind == "code"]
    return [text for text in found if text.startswith("!") == shell]


def run_python(snippets: list[str]) -> None:
    """One after the other, as in a notebook."""
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in snippets:
        short = re.sub(r"learn\([\d_]+", "learn(150", snippet)
        short = short.replace('stage="weights"', 'stage="zero_shot", episodes=2')
        exec(short, names)


def run_shell(lines: list[str]) -> None:
    """Each works on what those before it left."""
    for line in lines:
        program, *arguments = shlex.split(line.removeprefix("!"), comments=True)
        if program == "make":
            continue
        assert program == "equirl"
        command, *given = (argument.replace("…", "one") for argument in arguments)
        short = ["progress=false", *SHORT[command]] if command != "export" else []
        if command == "train" and not any(a.startswith(("run_dir=", "-m")) for a in given):
            short.append("run_dir=runs/one")
        main([command, *given, *short])


@pytest.mark.parametrize(
    "page", rarely(["../README.md", "index.md", *PAGES], "tutorials/trained_agent.md")
)
def test_python_of_every_page_runs(hooks: ModuleType, page: str, folder: Path) -> None:
    if page != "tutorials/sweeps_and_reports.md":  # which is of runs made by its commands
        run_python(code(hooks, page, shell=False))


def test_commands_of_the_readme_run(
    hooks: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for cell in code(hooks, "../README.md", shell=True) for line in cell.splitlines()]
    assert len(lines) == 7
    run_shell(lines)
    assert "the symmetry holds" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_page_runs_as_a_notebook(hooks: ModuleType, page: str, folder: Path) -> None:
    for kind, text in hooks.cells(page):
        if kind == "code" and text.startswith("!"):
            run_shell(text.replace("range(0,10)", "range(0,1)").splitlines())
        elif kind == "code":
            run_python([text])


@pytest.mark.parametrize("target", ["train", "test"])
def test_make_target_exists(target: str) -> None:
    subprocess.run(["make", target, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_tests_that_pages_name_exist() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    exist = set(re.findall(r"def (test_\w+)\(", tests))
    for page in (ROOT / "docs").rglob("*.md"):
        named = set(re.findall(r"`(test_\w+)`", page.read_text()))
        assert named <= exist, f"{page.name}: {sorted(named - exist)}"
