"""Bad input: one line that says what was wrong, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import DQN, PPO

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

TRAIN = ("train", "env=cartpole", "method=equitune", "total_timesteps=32", "run_dir=run")
SHORT = ("eval.episodes=1", "eval.final_episodes=1", "env.net_arch=[8]", "progress=false")

Refused = Callable[..., str]


def files_below(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(equirl_command: Callable[..., Any], folder: Path) -> Refused:
    """The one line with which the command refuses."""

    def line(*arguments: str) -> str:
        before = files_below(folder)
        outcome = equirl_command(*arguments)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert outcome.err.count("\n") == 1, outcome.err
        assert "Traceback" not in outcome.err
        assert files_below(folder) == before
        command = arguments[0] if arguments[0] in ("train", "evaluate", "transfer") else ""
        name = f"equirl {command}".strip()
        assert outcome.err.startswith(f"{name}: ")
        return str(outcome.err).strip().removeprefix(f"{name}: ")

    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("trian", "no command 'trian': did you mean 'train'? --help"),
        ("--verbose", "no command '--verbose' --help"),
    ],
)
def test_unknown_command_is_refused(refused: Refused, arguments: str, words: str) -> None:
    line = refused(arguments)
    assert all(word in line for word in words.split(" "))


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("env=cartpol", "unknown env 'cartpol': did you mean 'cartpole'?"),
        ("env=CartPole-v1", "env.id=My/Env-v0"),
        ("env=null", ""),
        ("method=equitun", "unknown method 'equitun': did you mean 'equitune'?"),
        ("method=nonsense", "known: augment, canonical, equitune, equizero, lambda, plain"),
        ("seeed=1", "no such key 'seeed': did you mean 'seed'?"),
        ("env.dqn.gama=1", "no such key 'env.dqn.gama': did you mean 'env.dqn.gamma'?"),
        ("eval.evry=1", "no such key 'eval.evry': did you mean 'eval.every'?"),
        ("gradient=selected", "no such key 'gradient': did you mean 'method.gradient'?"),
        ("hydra/launcher=nonsense", "unknown hydra/launcher 'nonsense'"),
        ("seed=abc", "seed: expected a whole number, got 'abc'"),
        ("seed=1.5", "seed: expected a whole number, got '1.5'"),
        ("seed=", "seed: expected a whole number, got ''"),
        ("total_timesteps=many", "total_timesteps: expected a whole number, got 'many'"),
        ("env.dqn.gamma=high", "env.dqn.gamma: expected a number, got 'high'"),
        ("env.net_arch=5", "env.net_arch: expected a list"),
        ("env.net_arch=[a]", "env.net_arch[0]: expected a whole number, got 'a'"),
        ("env.kwargs=5", "env.kwargs: expected a mapping"),
        ("progress=maybe", "progress: expected true or false, got 'maybe'"),
        ("run_dir=null", "run_dir"),
        ("foo", "'foo' (arguments are written key=value)"),
        ("=3", ""),
        ("seed=1=2", "arguments are written key=value"),
        ("env.net_arch=[8", "arguments are written key=value"),
        ("--seed=3", "no option '--seed' (arguments are written key=value, without dashes)"),
        ("--verbose", "no option '--verbose'"),
        ("+sed=3", "'+sed=3' adds or removes a key"),
        ("~seed", "'~seed' adds or removes a key"),
        ("seed=${nothing}", "nothing"),
        ("env.policy=MlpPolice", "got 'MlpPolice': did you mean 'MlpPolicy'?"),
        ("method.name=nonsense", "method.name must be one of plain, augment, equitune"),
        ("method.gradient=all", "method.gradient must be one of selected, straight_through"),
        ("method.init=zero", "method.init must be one of equitune, equizero, got 'zero'"),
        ("method.canonical_score=x", "canonical_score must be one of lexicographic, learned"),
    ],
)
def test_what_cannot_be_read_is_refused(refused: Refused, argument: str, said: str) -> None:
    assert said in refused(*TRAIN, *SHORT, argument)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("total_timesteps=0", "total_timesteps must be at least 1, got 0"),
        ("total_timesteps=-5", "total_timesteps must be at least 1, got -5"),
        ("seed=-1", "seed must be between 0 and 4294967295, got -1"),
        ("checkpoint_every=-1", "checkpoint_every must be at least 0, got -1"),
        ("threads=0", "threads must be at least 1, got 0"),
        ("eval.every=0", "eval.every must be at least 1, got 0"),
        ("eval.episodes=0", "eval.episodes must be at least 1, got 0"),
        ("eval.final_episodes=-2", "eval.final_episodes must be at least 1, got -2"),
        ("env.n_envs=0", "env.n_envs must be at least 1, got 0"),
        ("env.net_arch=[0]", "env.net_arch must be at least 1, got 0"),
        ("env.net_arch=[8,-8]", "env.net_arch must be at least 1, got -8"),
        ("env.dqn.learning_rate=-1", "env.dqn.learning_rate must be between 0"),
        ("env.dqn.learning_rate=inf", "env.dqn.learning_rate must be between 0"),
        ("env.dqn.gamma=nan", "env.dqn.gamma must be between 0 and 1, got nan"),
        ("env.dqn.gamma=1.1", "env.dqn.gamma must be between 0 and 1, got 1.1"),
        ("env.dqn.tau=-1", "env.dqn.tau must be between 0 and 1, got -1"),
        ("env.dqn.exploration_fraction=2", "exploration_fraction must be between 0 and 1"),
        ("env.dqn.exploration_final_eps=-1", "exploration_final_eps must be between 0 and 1"),
        ("env.dqn.buffer_size=0", "env.dqn.buffer_size must be at least 1, got 0"),
        ("env.dqn.batch_size=0", "env.dqn.batch_size must be at least 1, got 0"),
        ("env.dqn.learning_starts=-1", "env.dqn.learning_starts must be at least 0, got -1"),
        ("env.dqn.train_freq=0", "env.dqn.train_freq must be at least 1, got 0"),
        ("env.dqn.gradient_steps=-2", "env.dqn.gradient_steps must be at least -1, got -2"),
        ("env.dqn.n_steps=0", "env.dqn.n_steps must be at least 1, got 0"),
        ("env.dqn.target_update_interval=0", "target_update_interval must be at least 1, got 0"),
        ("env.dqn.max_grad_norm=-1", "env.dqn.max_grad_norm must be at least 0, got -1"),
        ("env.dqn.buffer_size=1000000000000000", "allocate"),
    ],
)
def test_number_out_of_range_is_refused(refused: Refused, argument: str, said: str) -> None:
    assert said in refused(*TRAIN, *SHORT, argument)


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
        (("env.id=Pendulum-v1", "method=plain"), "Discrete"),
        (("env=gridworld", "env.kwargs.size=1"), "size is 1, expected an integer of at least 2"),
        (("env=gridworld", "env.kwargs.sise=5"), "unexpected keyword argument 'sise'"),
        (("env=gridworld", "env.policy=CnnPolicy"), "CnnPolicy does not fit"),
        (("env=cartpole", "env.policy=CnnPolicy"), "NatureCNN only with images"),
        (("env=cartpole", "env.policy=MultiInputPolicy"), "MultiInputPolicy for Dict"),
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


@pytest.mark.parametrize("device", ["foo", "cuda:99", "meta"])
def test_device_that_is_not_there_is_refused(refused: Refused, device: str) -> None:
    line = refused(*TRAIN, *SHORT, f"device={device}")
    assert f"device '{device}' cannot be used" in line
    assert "say auto or cpu" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["train", "evaluate", "transfer"])
def test_cuda_without_a_gpu_is_refused(refused: Refused, plain_agent: Path, command: str) -> None:
    agent = () if command == "train" else (f"agent={plain_agent}",)
    line = refused(command, "env=cartpole", "device=cuda", *agent)
    assert "device 'cuda' cannot be used" in line


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_run_directory_that_exists_is_left_alone(
    refused: Refused, folder: Path, plain_agent: Path, command: str
) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "result.json").write_text("precious")
    agent = () if command == "train" else (f"agent={plain_agent}",)
    line = refused(command, "env=cartpole", "run_dir=run", *agent)
    assert line == "run exists already: choose another run_dir, or remove it"


@pytest.mark.parametrize("run_dir", ["file/run", "file/deep/run", "x" * 300])
@pytest.mark.parametrize("command", ["train", "transfer"])
def test_run_directory_that_cannot_be_made_is_refused(
    refused: Refused, folder: Path, plain_agent: Path, command: str, run_dir: str
) -> None:
    (folder / "file").write_text("a regular file")
    agent = () if command == "train" else (f"agent={plain_agent}", "progress=false")
    assert run_dir in refused(command, "env=cartpole", f"run_dir={run_dir}", *agent)


def test_nothing_of_a_sweep_is_run_when_its_first_run_is_refused(
    equirl_command: Callable[..., Any], folder: Path
) -> None:
    outcome = equirl_command("train", "-m", "env=cartpole", *SHORT, "seed=-2,-1")
    assert outcome.code == 2
    assert outcome.err == "equirl train: seed must be between 0 and 4294967295, got -2\n"
    assert not list(folder.rglob("*.zip"))
    assert not list(folder.rglob("config.yaml"))


@pytest.fixture
def agents(folder: Path, plain_agent: Path) -> Path:
    """Agents that are none, in the current folder."""
    whole = plain_agent.read_bytes()
    (folder / "text.zip").write_text("This is not a zip file.\n")
    (folder / "empty.zip").write_bytes(b"")
    (folder / "truncated.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(plain_agent) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        offset = archive.getinfo("policy.pth").header_offset
    damaged = bytearray(whole)
    damaged[offset + 600 : offset + 700] = bytes(100)
    assert damaged != whole
    (folder / "damaged.zip").write_bytes(damaged)
    (folder / "folder.zip").mkdir()
    for name, replaced in (("other", None), ("no_json", b'{"gamma": 0.9'), ("whole", b"{}")):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            if replaced is None:
                archive.writestr("holiday.jpg", b"sand")
                continue
            for member, content in members.items():
                archive.writestr(member, replaced if member == "data" else content)
    assert json.loads(members["data"])
    small = {"n_steps": 8, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    PPO("MlpPolicy", "CartPole-v1", **small).save(folder / "ppo.zip")
    car = {"buffer_size": 1, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    DQN("MlpPolicy", "MountainCar-v0", **car).save(folder / "car.zip")
    return folder


@pytest.mark.parametrize("command", ["evaluate", "transfer"])
def test_agent_that_is_none_is_refused(refused: Refused, agents: Path, command: str) -> None:
    rest = ("env=cartpole", "episodes=2", "progress=false")
    for agent, said in {
        "missing.zip": "there is no agent at missing.zip",
        "folder.zip": "there is no agent at folder.zip",
        "text.zip": "text.zip is damaged or not a zip",
        "empty.zip": "empty.zip is damaged or not a zip",
        "truncated.zip": "truncated.zip is damaged or not a zip",
        "damaged.zip": "damaged.zip is damaged",
        "no_json.zip": "no_json.zip is damaged",
        "other.zip": "other.zip is not a Stable-Baselines3 agent",
        "ppo.zip": "ppo.zip is not a DQN agent",
        "car.zip": "car.zip was made for 2 observation entries and 3 actions, the environment has "
        "4 and 2",
    }.items():
        assert said in refused(command, f"agent={agent}", *rest)
    assert "which agent? Say agent=PATH" in refused(command, *rest)
    assert "which agent? Say agent=PATH" in refused(command, "agent=", *rest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "env=cartpole", "transform=nonsense"), "transform=all, or one of e, mirror"),
        (("evaluate", "env=cartpole", "transform="), "transform=all, or one of e, mirror"),
        (("evaluate", "env=cartpole", "episodes=0"), "episodes must be at least 1, got 0"),
        (("evaluate", "env=cartpole", "seed=-1"), "-1"),
        (("evaluate",), "say env=NAME or env.id=ID"),
        (("evaluate", "env=gridworld"), "was made for 4 observation entries and 2 actions"),
        (("transfer",), "which environment? Say env=cartpole"),
        (("transfer", "env=cartpole", "episodes=1"), "episodes must be at least 2, got 1"),
        (("transfer", "env=cartpole", "methods=[foo]"), "methods: no method 'foo', only equitune"),
        (("transfer", "env=cartpole", "methods=[]"), "methods: name at least one of equitune"),
        (("transfer", "env=cartpole", "methods=equitune"), "methods: expected a list"),
        (("transfer", "env.id=MountainCar-v0"), "no symmetry is known for MountainCar-v0"),
    ],
)
def test_what_does_not_suit_the_agent_is_refused(
    refused: Refused, plain_agent: Path, arguments: tuple[str, ...], said: str
) -> None:
    rest = [] if any(a.startswith("episodes=") for a in arguments) else ["episodes=2"]
    assert said in refused(*arguments, f"agent={plain_agent}", "progress=false", *rest)


def test_run_whose_configuration_is_unreadable_is_refused(
    refused: Refused, folder: Path, plain_agent: Path
) -> None:
    for text in ("env: 5\n", "{}\n", "env: {no_such_key: 1}\n", "env: [\n"):
        (folder / "config.yaml").write_text(text)
        (folder / "best_model.zip").write_bytes(plain_agent.read_bytes())
        assert "config.yaml" in refused("evaluate", "agent=best_model.zip", "progress=false")
