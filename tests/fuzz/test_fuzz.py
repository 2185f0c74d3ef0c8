"""Whatever is declared, typed or found in a file either works or is refused in one line."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, given, seed, settings
from stable_baselines3 import DQN

from equirl import Symmetry
from equirl.actions.affines import Affines
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.errors import AgentError, SymmetryError
from fuzz.fuzzed_agents import agent_files, read_and_build, saved
from fuzz.fuzzed_declarations import Named, declarations, declare
from fuzz.fuzzed_overrides import command_lines, prepared, run
from fuzz.fuzzed_spaces import observations, observe, play, returned, take_over, taken_over
from fuzz.guarded import check_message, comes_to_an_end
from fuzz.targets import TARGETS
from shared.sampled import Sampled
from shared.saved_agents import rewritten

SHARE = {
    "declarations": 60,
    "agents": 40,
    "overrides": 10,
    "environments": 80,
    "spaces": 20,
    "observations": 20,
}
"""Inputs of the default test run; with ``-m slow`` 180 times as many (41,000)."""


def fuzzed(inputs: int) -> settings:
    return settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with prepared(tmp_path_factory.mktemp("fuzz")):
        yield


@fuzzed(SHARE["declarations"])
@given(declarations())
def test_a_declaration_works_or_is_refused(declaration: tuple[Any, Any, Any]) -> None:
    declare(*declaration)


@fuzzed(SHARE["agents"])
@given(agent_files())
def test_an_agent_file_works_or_is_refused(content: bytes) -> None:
    read_and_build(content)


@fuzzed(SHARE["overrides"])
@given(command_lines())
def test_a_command_line_works_or_is_refused(folder: None, arguments: tuple[str, ...]) -> None:
    run(*arguments)


@fuzzed(SHARE["environments"])
@given(returned())
def test_what_an_environment_returns_is_of_its_spaces_or_refused(given: tuple[Any, Any]) -> None:
    play(*given)


@fuzzed(SHARE["spaces"])
@given(taken_over())
def test_an_agent_is_taken_over_by_its_spaces_alone(given: Any) -> None:
    take_over(*given)


@fuzzed(SHARE["observations"])
@given(observations())
def test_equal_numbers_are_equal_observations(given: tuple[str, str, list[int]]) -> None:
    observe(*given)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARE)
def test_many_inputs_work_or_are_refused(name: str, tmp_path: Path) -> None:
    inputs, check, surroundings = TARGETS[name]
    with surroundings(tmp_path):
        many = seed(2)(settings(fuzzed(180 * SHARE[name]), derandomize=False)(given(inputs)(check)))
        many()


TWO = spaces.Discrete(2)
VECTOR = spaces.Box(-1, 1, (2,))


class Unprintable:
    """Neither an array nor to be printed."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("no array here")

    def __repr__(self) -> str:
        raise RuntimeError("not even a name")


@pytest.mark.parametrize(
    ("space", "generators", "said"),
    [
        (VECTOR, {"m"}, "generators must be a dict of name: .*, got {'m'}"),
        (VECTOR, 1, "generators must be a dict of name: .*, got 1"),
        (VECTOR, [("m", (None, [0, 1]))], "generators must be a dict of name"),
        (VECTOR, torch.tensor([1, 0]), "generators must be a dict of name"),
        (VECTOR, {0: (None, [0, 1])}, "a generator's name must be a short text, got 0"),
        (VECTOR, {"": (None, [0, 1])}, "a generator's name must be a short text, got ''"),
        (VECTOR, {"a\nb": (None, [0, 1])}, r"a generator's name must be .*, got 'a\\nb'"),
        (4, {}, "the observation space must be a Gymnasium space, got 4"),
        (spaces.Box, {}, "the observation space must be a Gymnasium space, got <class"),
        (spaces.Dict(), {}, "the observation space is a Dict without any parts"),
        (spaces.Box(-1, 1, (0,)), {}, r"the observation space has no entries, its shape is \(0,\)"),
        (spaces.Box(-1, 1, (2,), np.longdouble), {}, "holds float.*, which PyTorch lacks"),
        (spaces.Discrete(10**9), {"m": (lambda s: s, [0, 1])}, "values: tables .* up to 65,536"),
        (spaces.Discrete(2**62), {"m": ([0], [0, 1])}, "expected a permutation of 0 … 46116"),
        (spaces.MultiDiscrete([10**8, 2]), {}, "2 entries of up to 100,000,000 values"),
        (
            VECTOR,
            {"a": (np.flip, [0, 1]), "e": (np.flip, [0, 1])},
            "the generator 'e' is another element than the one that is called so",
        ),
        (VECTOR, {"m": (None, Unprintable())}, "a Unprintable is not a permutation of 0 … 1"),
        (VECTOR, {"m": (Unprintable(), [0, 1])}, "got a Unprintable .TypeError: no array here"),
        (VECTOR, {"m": ([[1], [0, 1]], [0, 1])}, "must be a function, a permutation, signs or"),
        (
            spaces.Box(0, 3, (1,), np.uint8),  # 10⁹ is a multiple of 256
            {"m": (Named("x + 1e9"), [0, 1])},
            r"returns 1e\+09, which uint8 cannot hold",
        ),
        (VECTOR, {"m": (np.eye(2) * 1j, [0, 1])}, "must be a function, a permutation, signs or"),
        (VECTOR, {"m": ({None: None}, [0, 1])}, "is a dict of maps, the space is one array"),
        (VECTOR, {"m": (Named("ValueError"), [0, 1])}, "failed on one .*: ValueError: two lines"),
        (VECTOR, {"m": (Named("RecursionError"), [0, 1])}, "RecursionError: x{10,}…"),
        (VECTOR, {"m": (Named("bad array"), [0, 1])}, "returns no array: TypeError"),
        (VECTOR, {"m": (Named("as tensor with gradient"), [0, 1])}, "returns no array: Runtime"),
        (spaces.Dict(a=VECTOR), {"m": ({0: None, "a": None}, [0, 1])}, r"keys \[0, 'a'\], the obs"),
    ],
)
def test_what_the_fuzzers_found_in_declarations_is_refused(
    space: Any, generators: Any, said: str
) -> None:
    assert not declare(space, TWO, generators)
    with pytest.raises(SymmetryError, match=said):
        Symmetry.from_generators(space, TWO, generators)


def test_a_function_of_truth_values_is_compared_on_truth_values() -> None:
    flipped = {"m": (Named("invert"), [0, 1])}
    assert declare(spaces.Box(0, 1, (3,), np.bool_), TWO, flipped)


def test_truth_values_are_compared_with_the_bounds_of_the_largest_dtype() -> None:
    space = spaces.Box(0, 255, (2,), np.uint64)
    assert not declare(space, TWO, {"m": (Named("as bool"), [0, 1])})


def test_whole_maps_of_numbers_that_float64_rounds_are_exact() -> None:
    space = spaces.Box(-(2**63), 2**63 - 1, (4,), np.int64)
    turn = Named("hexagon")
    symmetry = Symmetry.from_generators(space, TWO, {"turn": (turn, [0, 1])})
    for numbers in ([2**60 + 1, 3, 5, 7], [-(2**63)] * 4, [2**53 + 1, 2**53, 0, 1]):
        point = np.array(numbers, np.int64)
        np.testing.assert_array_equal(symmetry.transform_observation("turn", point), turn(point))
        np.testing.assert_array_equal(symmetry.transform_observation(0, point), point)


@pytest.mark.long
def test_many_maps_that_mix_few_entries_each_are_soon_made_exact() -> None:
    # As 710 radians are 113 turns, to single precision, a turn by a radian has the order 710.
    steps = np.arange(710)
    matrix = np.tile(np.eye(96), (710, 1, 1))
    cos, sin = np.cos(2 * np.pi * steps / 710), np.sin(2 * np.pi * steps / 710)
    for i in range(12):
        matrix[:, i, i] = matrix[:, i + 12, i + 12] = cos
        matrix[:, i, i + 12], matrix[:, i + 12, i] = -sin, sin
    with comes_to_an_end():
        exact = Affines(matrix, np.zeros((710, 96))).polished(np.add.outer(steps, steps) % 710)
    np.testing.assert_allclose(exact.matrix, matrix, atol=1e-12)


def test_matrices_that_do_not_close_stay_within_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equirl.declaring.generated_actions.MAX_NUMBERS", 1000)
    space, shear = spaces.Box(-1, 1, (8,)), np.eye(8)
    shear[1, 0] = 1
    with pytest.raises(SymmetryError, match="do not close within 15 elements"):
        Symmetry.from_generators(space, TWO, {"shear": (shear, [0, 1])})


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "env=[0]"),
        ("train", "env=cartpole", "-c"),
        ("check", "env=cartpole", "--cfg=x"),
        ("train", "env=gridworld", "--cfg", "hydra", "hydra"),
        ("benchmark", "--package"),
        ("check", "env.id=Taxi-v3"),
        ("train", "env.id=a\x85b"),
        ("train", "env.id=Taxi-v3", "env.install=3.252113935276875e-203"),
        ("train", "env.id=Taxi-v3", "env.install=.x"),
        ("export", "env=gridworld", "agent=equivariant.zip", "hydra.output_subdir=199"),
    ],
)
def test_what_the_fuzzers_found_on_the_command_line_is_refused(
    folder: None, arguments: tuple[str, ...]
) -> None:
    assert not run(*arguments)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("plain", "activation_fn", 3),
        ("plain", "optimizer_class", []),
        ("plain", "features_extractor_class", {}),
        ("plain", "", 1),
        ("lambda", "orbit_samples", {"a": None}),
        ("lambda", "gradient", []),
        ("lambda", "method", "two\nlines"),
    ],
)
def test_policy_arguments_of_another_type_are_refused(
    name: str, key: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "agent.zip"
    path.write_bytes(saved(name))
    data = json.loads(zipfile.ZipFile(io.BytesIO(saved(name))).read("data"))
    data["policy_kwargs"][key] = value
    read_and_build(rewritten(path, data=json.dumps(data).encode()))


def test_a_layer_whose_number_is_spelled_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    path.write_bytes(saved("plain"))
    weights = torch.load(io.BytesIO(zipfile.ZipFile(path).read("policy.pth")))
    for number in ("00", "\N{ARABIC-INDIC DIGIT ZERO}"):
        odd = {
            key.replace("q_net.q_net.0.", f"q_net.q_net.{number}."): value
            for key, value in weights.items()
        }
        file = io.BytesIO()
        torch.save(odd, file)
        assert not read_and_build(rewritten(path, policy_pth=file.getvalue()))


def test_a_features_extractor_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    path.write_bytes(saved("plain"))
    weights = torch.load(io.BytesIO(zipfile.ZipFile(path).read("policy.pth")))
    weights["q_net.features_extractor.linear.0.weight"] = torch.tensor(1.0)
    file = io.BytesIO()
    torch.save(weights, file)
    assert not read_and_build(rewritten(path, policy_pth=file.getvalue()))


@pytest.mark.parametrize("blocks", [[], [[0]], [[0, 1]], [[0], [2]], [[0], [0]], [[1], [0]]])
def test_a_saved_symmetry_that_does_not_fit_its_spaces_is_refused(
    blocks: list[list[int]], tmp_path: Path
) -> None:
    path = tmp_path / "agent.zip"
    path.write_bytes(saved("mixed"))
    data = json.loads(zipfile.ZipFile(io.BytesIO(saved("mixed"))).read("data"))
    data["equirl_symmetry"]["blocks"] = blocks
    assert not read_and_build(rewritten(path, data=json.dumps(data).encode()))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": b'{"equirl_format": 99, "equirl_version": "a\\nb"}'}, "saved by equirl a b in"),
        ({"data": b'{"equirl_format": "' + b"x" * 9999 + b'"}'}, "equirl_format is 'xxxx"),
        ({"data": b'{"equirl_format": ' + b"9" * 4300 + b"}"}, "in format 9999"),
        ({"policy_pth": None, "policy_optimizer_pth": None}, "it holds ['data', 'pytorch_var"),
    ],
)
def test_what_a_file_says_is_shown_on_one_line_and_not_at_any_length(
    changed: dict[str, bytes | None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "agent.zip"
    path.write_bytes(saved("plain"))
    path.write_bytes(rewritten(path, **changed))
    with pytest.raises(AgentError, match=re.escape(said)) as refusal:
        read_agent(path)
    check_message(refusal.value)


def test_a_zip_whose_directory_gives_another_length_of_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    content = saved("plain")
    path.write_bytes(content[:26] + b"\xff\xff" + content[28:])  # the length of the first name
    with pytest.raises(
        AgentError, match="BadZipFile: File name in directory 'data' and"
    ) as refusal:
        read_agent(path)
    check_message(refusal.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("activation_fn", "two\nlines" + "x" * 9999, "activation_fn two linesxxx"),
        ("activation_fn", "<class 'torch." + "x" * 9999 + ".Y'>", "needs <class 'torch.xxx"),
        ("a\nb" + "x" * 9999, "AAAA", "a bxxx"),
    ],
)
def test_policy_arguments_are_shown_on_one_line_and_not_at_any_length(
    key: str, value: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "agent.zip"
    path.write_bytes(saved("plain"))
    data = json.loads(zipfile.ZipFile(io.BytesIO(saved("plain"))).read("data"))
    data["policy_kwargs"][key] = value
    path.write_bytes(rewritten(path, data=json.dumps(data).encode()))
    with pytest.raises(AgentError, match=re.escape(said)) as refusal:
        read_agent(path).build(DQN, Sampled(VECTOR), buffer_size=1)
    check_message(refusal.value)


def test_a_module_name_of_any_length_is_shown_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    path.write_bytes(saved("lambda"))
    data = json.loads(zipfile.ZipFile(io.BytesIO(saved("lambda"))).read("data"))
    data["policy_class"]["__module__"] = "two\nlines" + "x" * 9999
    path.write_bytes(rewritten(path, data=json.dumps(data).encode()))
    with pytest.raises(AgentError, match="policy class of two linesxxx") as refusal:
        restore(read_agent(path))
    check_message(refusal.value)
