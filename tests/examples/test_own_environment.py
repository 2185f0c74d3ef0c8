"""The commands of `examples/own_environment`, as they stand there, print what it says they do."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest
from hydra.core.global_hydra import GlobalHydra
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equirl.commands import main
from equirl.envs import registry
from fuzz.composed_once import files_composed_once

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_environment"
PAGE = (EXAMPLE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.DOTALL)
SHORT = {
    "check": ["transitions=2000", "progress=false"],
    "train": [
        "total_timesteps=200",
        "eval.every=200",
        "eval.episodes=2",
        "eval.final_episodes=2",
        "progress=false",
    ],
    "report": ["threshold=-1000", "reps=100", "progress=false"],
    "export": [],
}
"""The same in a few seconds."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the example, the current folder."""
    copy = shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(copy)
    # Wider than the page: on some machines an error is 8e-17 where there it is 0, and wraps.
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    monkeypatch.setattr(sys, "argv", ["equirl"])
    with files_composed_once():
        yield copy
    GlobalHydra.instance().clear()
    sys.modules.pop("docking", None)
    gym.registry.pop("Docking-v0", None)


def skeleton(line: str) -> str:
    """A line without its numbers and the widths of columns, which rounding errors change."""
    line = re.sub(r"([ ━─])\1+", r"\1", line)
    return re.sub(r"\s*[-\d][-\d.e]*\s*", "#", line).strip()


@pytest.mark.long
def test_every_command_prints_what_the_page_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) == 5
    for commands, printed in BLOCKS:
        for line in commands.splitlines():
            program, *arguments = line.split()
            if program == "tensorboard":
                log = EventAccumulator(str(folder / "runs" / "plain" / "tensorboard")).Reload()
                assert "eval/mean_reward" in log.Tags()["scalars"]
                continue
            assert program == "equirl"
            main([*arguments, *SHORT[arguments[0]]])
        if program == "equirl":
            found = {skeleton(line) for line in capsys.readouterr().out.splitlines()}
            for line in printed.splitlines():
                assert "…" in line or skeleton(line) in found, (line, found)
    assert (folder / "docking.pt2").stat().st_size > 0
