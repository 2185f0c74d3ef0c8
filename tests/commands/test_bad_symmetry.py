"""Environments and symmetries that will not do are refused: one line, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.refusals import SHORT, TRAIN, Refused

DECLARATIONS = """
import sys

import numpy as np
from gymnasium import spaces
from equirl import Symmetry

too_short = {"mirror": (np.negative, [1])}
no_permutation = {"mirror": (np.negative, [1, 1])}
not_affine = {"mirror": (np.square, [1, 0])}
stretch = {"stretch": (lambda observation: 2 * observation, [1, 0])}
angle = np.pi * (5**0.5 - 1)  # the golden one: no power of it comes near to the identity
c, s = np.cos(angle), np.sin(angle)
turn = {"turn": (np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), [0, 1])}
no_homomorphism = {"mirror": (None, [1, 0])}
loses_entries = {"mirror": (lambda observation: observation[:2], [1, 0])}
raises = {"mirror": (lambda observation: observation["angle"], [1, 0])}
no_pair = {"mirror": np.negative}
number = 5

def needs_no_spaces():
    return {}

def fails(observation_space, action_space):
    raise RuntimeError("out of paper")

def returns_nothing(observation_space, action_space):
    too_short

of_three = Symmetry.from_generators(
    spaces.Box(-1, 1, (3,)), spaces.Discrete(2), {"mirror": (np.negative, [1, 0])}
)
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say env=cartpole"),
        (("env.id=NoSuch-v0",), "`NoSuch` doesn't exist"),
        (("env.id=CartPol-v1",), "`CartPole`"),
        (("env.id=CartPole-v9",), "`v1`"),
        (("env.id=My/Env-v0",), "Namespace My not found"),
        (("env.id=no_such_module:Env-v0",), "no_such_module"),
        (("env.id=",), "Malformed environment ID"),
        (("env.id=MountainCar-v0",), "env.symmetry=my_module:my_symmetry"),
        (("env.id=Pendulum-v1", "method=plain", "algorithm=dqn"), "dqn does not take Box actions"),
        (("env=gridworld", "env.kwargs.size=1"), "size is 1, expected an integer of at least 2"),
        (("env=gridworld", "env.kwargs.sise=5"), "unexpected keyword argument 'sise'"),
        (("env=gridworld", "algorithm.policy=CnnPolicy"), "CnnPolicy does not fit"),
        (("env=cartpole", "env.frame_stack=0"), "env.frame_stack must be at least 1, got 0"),
        (("env=cartpole", "env.kwargs=[1]"), "a mapping, written {key: value}, got a list"),
        (("env=cartpole", "algorithm.features=gymnasium:Env"), "class of features extractors"),
        (("env=cartpole,acrobot",), "several values: many runs are equirl train -m"),
        (("env=cartpole", "algorithm.policy=CnnPolicy"), "NatureCNN only with images"),
        (("env=cartpole", "algorithm.policy=MultiInputPolicy"), "MultiInputPolicy for Dict"),
    ],
)
def test_environment_that_will_not_do_is_refused(
    refused: Refused, arguments: tuple[str, ...], said: str
) -> None:
    assert said.lower() in refused("train", *arguments, *SHORT, "run_dir=run").lower()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("too_short", "'mirror': the action permutation must list all 2 actions once, got [1]"),
        ("no_permutation", "'mirror': [1, 1] is not a permutation"),
        ("not_affine", "'mirror' is not affine: entry"),
        ("stretch", "'stretch' generates no finite group"),
        ("turn", "do not close within 1024 elements"),
        ("no_homomorphism", "not a homomorphism"),
        ("loses_entries", "'mirror' turns the observation of shape (4,) into shape (2,)"),
        ("raises", "'mirror' failed on one observation: IndexError"),
        ("no_pair", "'mirror' must be a pair"),
        ("number", "got int"),
        ("needs_no_spaces", "takes 0 positional arguments but 2 were given"),
        ("fails", "RuntimeError: out of paper (my_declarations.py, line 25)"),
        ("returns_nothing", "got NoneType"),
        ("of_three", "(3,)"),
        ("no_such_name", "has no attribute 'no_such_name'"),
    ],
)
def test_declared_symmetry_that_is_none_is_refused(
    refused: Refused, folder: Path, name: str, said: str
) -> None:
    (folder / "my_declarations.py").write_text(DECLARATIONS)
    assert said in refused(*TRAIN, *SHORT, f"env.symmetry=my_declarations:{name}")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("no_such_module:mirror", "cannot import no_such_module:mirror: No module named"),
        ("no_colon", "expected module:object, got 'no_colon'"),
        (":mirror", "expected module:object"),
        (".relative:mirror", "expected module:object"),
        ("misspelt:mirror", "SyntaxError"),
        ("failing:mirror", "ZeroDivisionError: division by zero (failing.py, line 2)"),
        ("leaving:mirror", "SystemExit"),
    ],
)
def test_symmetry_that_cannot_be_imported_is_refused(
    refused: Refused, folder: Path, reference: str, said: str
) -> None:
    (folder / "misspelt.py").write_text("def mirror(:\n")
    (folder / "failing.py").write_text("\nmirror = 1 / 0\n")
    (folder / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    assert said in refused(*TRAIN, *SHORT, f"env.symmetry={reference}")
