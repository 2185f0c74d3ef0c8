"""Command lines as anybody might type them, most of them wrong, with the long work left out."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hypothesis import strategies as st
from stable_baselines3 import DQN

from equirl.commands import COMMANDS, main
from equirl.configs.schema import known_keys
from fuzz.composed_once import files_composed_once
from fuzz.guarded import comes_to_an_end


class Began(BaseException):
    """The long work would begin here: everything before it worked. No `Exception`, as no error."""


LONG_WORK = (
    ("train", "Training"),
    ("evaluate", "play_episodes"),
    ("transfer", "transfer_agent"),
    ("check", "check_symmetry"),
    ("check", "collect"),
    ("benchmark", "measure"),
    ("export", "export_policy"),
)
"""By command, what is left out."""

KEYS = [k for k in known_keys() if k not in ("env", "method")]
# What would write, wait or run elsewhere stays out.
WORDS = [
    "0", "1", "-1", "2", "3", "1.5", "1e3", "1e400", "nan", "inf", "-inf",
    "99999999999999999999", "0x10", "1_000", "true", "false", "yes", "null", "???", "auto",
    "cpu", "cuda", "cuda:99", "meta", "all", "e", "mirror", "weights", "pickle", "onnx", "torch",
    "plain", "lambda", "equitune", "equizero", "canonical", "augment", "selected", "learned",
    "lexicographic", "MlpPolicy", "CnnPolicy", "MultiInputPolicy", "cartpole", "acrobot",
    "gridworld", "generic", "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Taxi-v3",
    "FrozenLake-v1", "NoSuch-v0", "ns/CartPole-v1", "CartPole", "CartPole-v9", "CartPole-v1:x",
    ":CartPole-v1", "os:getcwd", "json:loads", "os", "os:", ":x", "no_such_module:x", "math:pi",
    "torch.nn:Tanh", "numpy:negative", "builtins:int", ".x:y", "a..b:c", "run", "agent.zip",
    "text.txt", "/dev/null", "run/agent", "run\\0", ".", "..", "/", "~", "[]", "[1,2]", "[a,b]",
    "[1,[2]]", "[[]]", "[8]", "[-8]", "[1e400]", "[null]", "[equitune]", "[plain]", "[training]",
    "[memory]",
    "zero_shot", "finetune", "hub:user/repo", "hub:",
    "{}", "{a:1}", "{a:{b:[1]}}", "{render_mode:human}", "{render_mode:7}", "{1:2}",
    "{max_episode_steps:-1}", "{x}", "{", "}", "[", "]", "(", ")", "'", '"', "''", '""', "'a",
    "\"b'", "$", "${", "${}", "${seed}", "${no}", "${env}", "${run_dir}", "${.}", "${..seed}",
    "${oc.env:HOME}", "${oc.env:NO_SUCH}", "${oc.env:NO,5}", "${oc.decode:'['}", "${now:%Y}",
    "${now:}", "${a:b}", "${oc.create:{a:1}}", "${equirl.label:a,b}", "${equirl.keys:nothing}",
    "${oc.select:seed}", "${${seed}}", "\\", "\\n", "ü", "漢", "🦄", "\u202e", "\x1b[31m", "a=b",
    "a,b", "1,2", "range(3)", "choice(1,2)", "interval(0,1)", "sort(3,1)", "shuffle(1)",
    "glob(*)", "str(1)", "int(a)", "int([])", "bool(x)", "float(1)", "json_str(1)", "--", "-",
    "#", "%",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([*WORDS, "", " ", "a b", "\n", "x" * 300, "a\tb", "1,"]),
    st.sampled_from(WORDS),
    st.integers().map(str),
    st.integers(-3, 300).map(str),
    st.floats().map(str),
    st.text(max_size=6).filter(lambda text: "/" not in text and ".." not in text),
    st.lists(st.sampled_from(WORDS), max_size=3).map(lambda ws: f"[{','.join(ws)}]"),
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=3).map("".join),
)
ODD_KEYS = st.one_of(
    st.sampled_from(
        [
            "env",
            "method",
            "env@x",
            "env/x",
            "@",
            "/",
            ".",
            "..",
            ".seed",
            "seed.",
            "env.",
            "env..id",
            "method.",
            "env.kwargs.",
            "env.kwargs.x",
            "env.kwargs.render_mode",
            "env.kwargs.x.y",
            "algorithm.gamma.x",
            "algorithm.net_arch.0",
            "algorithm.net_arch[0]",
            "parts.0",
            "methods[9]",
            "hydra.verbose",
            "hydra.job.name",
            "hydra/help",
            "schema/train",
            "schema",
            "schema@x",
            "+env",
            "+hydra.x",
            "~env",
            "~hydra",
            "++seed",
            "~env.kwargs.x",
            "+env.kwargs.x",
            "++hydra.job.name",
            "seeed",
            "env.idd",
            "$",
            "${seed}",
            "'seed'",
            '"seed"',
            "se=ed",
            "0",
            "null",
            "true",
            "-",
            "-s",
            "--seed",
            "--cfg",
            "-c",
            "--info",
            "-h",
            "hydra.searchpath",
            "hydra.job.num",
            "hydra.mode",
            "hydra.output_subdir",
        ]
    ),
    st.text(max_size=5).filter(lambda text: not text.startswith("-")),
)
FLAGS = st.sampled_from(
    ["-c", "job", "--cfg", "--cfg=job", "hydra", "-p", "--resolve", "--info", "-i", "all",
     "--package", "x", "--cfg=x", "--help", "-h", "--version", "-", "--", "---", "-x", "", " "]
)  # fmt: skip
PAIRS = st.builds("{}={}".format, st.sampled_from(KEYS), VALUES)
ENVIRONMENTS = st.sampled_from(
    ["env=cartpole", "env=gridworld", "env.id=Taxi-v3", "env.id=CartPole-v1", "env=acrobot"]
)
AGENTS = st.sampled_from(
    ["agent=agent.zip", "agent=text.txt", "agent=run", "agent=equivariant.zip"]
)


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, ...]:
    """A command and its arguments, right but for a few."""
    command = draw(st.sampled_from(["train", *COMMANDS]))
    arguments = [draw(ENVIRONMENTS)]
    if command in ("evaluate", "transfer", "export"):
        arguments.append(draw(AGENTS))
    if command == "export":
        arguments.append("output=policy")
    for kind in draw(st.lists(st.integers(0, 11), max_size=3)):
        odd = st.builds("{}={}".format, ODD_KEYS, VALUES)
        arguments.append(draw({0: odd, 1: VALUES, 2: FLAGS}.get(kind, PAIRS)))
    if draw(st.integers(0, 30)) == 0:
        command = draw(VALUES)
    return (command, *arguments)


@cache
def _agents() -> dict[str, bytes]:
    """What lies in the current folder, by name."""
    import gymnasium as gym

    from equirl.agents import EquivariantDQN
    from equirl.envs import SymmetryWrapper

    small: dict[str, Any] = {"policy_kwargs": {"net_arch": [4]}, "buffer_size": 1, "device": "cpu"}
    files = {"text.txt": b"text\n"}
    for name, model in {
        "agent.zip": DQN("MlpPolicy", "CartPole-v1", **small),
        "equivariant.zip": EquivariantDQN(
            "MlpPolicy", SymmetryWrapper(gym.make("CartPole-v1")), method="equitune", **small
        ),
    }.items():
        file = io.BytesIO()
        model.save(file)
        files[name] = file.getvalue()
    return files


def _began(*_: Any, **__: Any) -> Any:
    raise Began


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """Go to an empty folder, put agents there, and leave out the long work."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with files_composed_once(), pytest.MonkeyPatch.context() as patch:
            for command, name in LONG_WORK:
                if command in COMMANDS:
                    module = importlib.import_module(f"equirl.commands.{command}")
                    function = getattr(module, command)
                    patch.setitem(function.__globals__, name, _began)
            for name, content in _agents().items():
                Path(name).write_bytes(content)
            yield
    finally:
        os.chdir(before)


def run(*arguments: str) -> bool:
    """Run the command: it is refused with one line and exit code 2, or gets to its long work.

    Returns:
        Whether it got there, or ended well.
    """
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["equirl"])
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("HYDRA_FULL_ERROR", "0")
        patch.setattr(torch, "set_num_threads", lambda threads: None)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                comes_to_an_end(),
            ):
                main(arguments)
        except Began:
            code = None
        except SystemExit as stop:
            code = stop.code
        finally:
            GlobalHydra.instance().clear()
    left = _left_behind(remove=True)
    if code is None:
        return True
    assert not left, (left, err.getvalue())
    if code == 0:
        return True
    assert code == 2, (code, err.getvalue())
    said = err.getvalue()
    assert out.getvalue() == "", out.getvalue()
    assert said.startswith("equirl"), said
    assert said.splitlines(keepends=True) == [said], said
    assert said.endswith("\n"), said
    assert len(said) < 4000, said[:300]
    return False


def _left_behind(remove: bool) -> list[str]:
    """What lies in the current folder that was not there."""
    left = [path for path in Path.cwd().iterdir() if path.name not in _agents()]
    for path in left if remove else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return sorted(path.name for path in left)
