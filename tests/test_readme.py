"""Every snippet of the README runs, with training cut short."""

import re
import subprocess
from pathlib import Path

import pytest
from stable_baselines3 import DQN

from equirl.commands import main
from equirl.envs import registry

ROOT = Path(__file__).parents[1]
SNIPPETS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
PYTHON = [code for language, code in SNIPPETS if language == "python"]
SHELL = [
    line.split("#")[0].strip()
    for language, code in SNIPPETS
    if language == "sh"
    for line in code.splitlines()
]
SHORT = {
    "train": ["total_timesteps=300", "eval.final_episodes=2", "progress=false", "run_dir=runs/one"],
    "evaluate": ["episodes=2", "progress=false"],
    "transfer": ["episodes=2", "weights.steps=1000", "progress=false"],
    "check": ["progress=false"],
    "report": ["reps=100", "progress=false", "run_dir=report"],
    "benchmark": ["parts=[predict]", "networks=[mlp-64-64]", "orders=[1]", "rounds=1"],
    "export": [],
}


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the snippets register, other tests must not find."""
    monkeypatch.setattr(registry, "_known", dict(registry._known))


def test_the_readme_has_the_snippets_that_are_looked_for() -> None:
    assert len(PYTHON) >= 5
    assert {line.split()[0] for line in SHELL} == {"make", "equirl"}


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.strip().splitlines()[-1][:40])
def test_python_snippet_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    DQN("MlpPolicy", "Acrobot-v1", buffer_size=1, device="cpu").save("dqn_acrobot")
    short = re.sub(r"learn\([\d_]+\)", "learn(150)", code)
    short = short.replace('stage="weights"', 'stage="weights", weight_steps=1000, episodes=2')
    exec(short, {"__name__": "readme"})


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("make")])
def test_make_target_exists(line: str) -> None:
    subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_command_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the README: each works on what the ones before have left."""
    monkeypatch.chdir(tmp_path)
    exec("from stable_baselines3 import DQN; DQN('MlpPolicy', 'Acrobot-v1').save('dqn_acrobot')")
    trained = checked = 0
    for line in [line for line in SHELL if line.startswith("equirl")]:
        command, *arguments = line.replace("…", "one").split()[1:]
        short = SHORT[command]
        if command == "train":
            trained += 1
            short = [s if trained == 1 else s.replace("/one", f"/{trained}") for s in short]
        if command == "check":
            checked += 1
            short = [*short, f"run_dir=runs/check{checked}"]
        main([command, *arguments, *short])
    assert "return" in capsys.readouterr().out
    assert trained == 2
    assert checked == 5
