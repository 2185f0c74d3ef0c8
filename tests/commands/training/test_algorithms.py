"""`equirl train` with every algorithm: it trains, is exported, and goes on exactly."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from shared.rarely import rarely
from shared.refusals import Refused
from shared.resumption import curves, killed_at

Command = Callable[..., Any]

TINY = (
    *("progress=false", "algorithm.net_arch=[8]", "eval.episodes=2", "eval.final_episodes=2"),
    *("eval.every=100", "checkpoint_every=64", "total_timesteps=200"),
)
OFF_POLICY = (
    *("algorithm.learning_starts=20", "algorithm.batch_size=8"),
    *("algorithm.train_freq=8", "algorithm.gradient_steps=2"),
)
POINTS = ("env=point_mass", "env.kwargs.damping=0.1", "env.kwargs.max_episode_steps=20")
TASKS: dict[str, tuple[str, ...]] = {
    "ppo": (
        *("env=cartpole", "algorithm.n_envs=1", "algorithm.batch_size=32"),
        *("algorithm.n_steps=32", "algorithm.n_epochs=2"),
    ),
    "a2c": POINTS,
    "sac": (*POINTS, *OFF_POLICY),
    "td3": (*POINTS, *OFF_POLICY, "algorithm.noise_std=0.1"),
    "ddpg": (*POINTS, *OFF_POLICY),
    "qrdqn": ("env=cartpole", *OFF_POLICY, "algorithm.n_quantiles=5"),
    "tqc": (*POINTS, *OFF_POLICY),
}
CONTRIB = ("qrdqn", "tqc")


def keys_of(algorithm: str) -> tuple[str, ...]:
    if algorithm in CONTRIB and importlib.util.find_spec("sb3_contrib") is None:
        pytest.skip('needs pip install "equirl[contrib]"')
    return (f"algorithm={algorithm}", *TINY, *TASKS[algorithm])


@pytest.fixture(scope="module")
def trained(
    equirl_command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """The run directory of a training by this algorithm with this method."""
    known: dict[tuple[str, str], Path] = {}

    def run(algorithm: str, method: str) -> Path:
        if (algorithm, method) not in known:
            folder = tmp_path_factory.mktemp("runs") / "run"
            keys = (*keys_of(algorithm), f"method={method}", f"run_dir={folder}")
            outcome = equirl_command("train", *keys)
            assert outcome.code == 0, outcome.err
            known[algorithm, method] = folder
        return known[algorithm, method]

    return run


@pytest.mark.parametrize(
    ("algorithm", "method"),
    rarely(
        [(name, method) for name in TASKS for method in ("equitune", "plain")],
        *((name, "plain") for name in TASKS if name != "sac"),
    ),
)
def test_every_algorithm_trains(
    trained: Callable[[str, str], Path], algorithm: str, method: str
) -> None:
    run = trained(algorithm, method)
    result = json.loads((run / "result.json").read_text())
    assert (result["algorithm"], result["method"]) == (algorithm, method)
    assert result["steps"] >= 200
    assert {"eval/mean_reward"} <= curves(run).keys()


# The rare ones have the actors of A2C, SAC and TD3.
@pytest.mark.long
@pytest.mark.parametrize(
    ("algorithm", "method"),
    [
        *((name, "equitune") for name in ("a2c", "sac", "td3", "qrdqn")),
        *(pytest.param(n, "equitune", marks=pytest.mark.slow) for n in ("ppo", "ddpg", "tqc")),
        *(pytest.param(name, "plain", marks=pytest.mark.slow) for name in TASKS),
    ],
)
def test_what_an_algorithm_exports_acts_as_it_does(
    equirl_command: Command,
    trained: Callable[[str, str], Path],
    tmp_path: Path,
    algorithm: str,
    method: str,
) -> None:
    run, file = trained(algorithm, method), tmp_path / "policy.pt2"
    exported = equirl_command("export", f"agent={run}", f"output={file}", "format=torch")
    assert exported.code == 0, exported.err
    model = restore(read_agent(run))
    shape = model.observation_space.shape
    seen = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    expected, _ = model.predict(seen, deterministic=True)
    actions, *_ = torch.export.load(file).module()(torch.from_numpy(seen))
    np.testing.assert_allclose(actions.detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("algorithm", rarely(["ppo", "a2c", "sac"], "a2c"))
def test_a_run_that_was_cut_off_ends_bit_for_bit_as_one_that_was_not(
    equirl_command: Command,
    trained: Callable[[str, str], Path],
    tmp_path: Path,
    algorithm: str,
) -> None:
    runs = [trained(algorithm, "equitune"), tmp_path / "cut off"]
    keys = (*keys_of(algorithm), "method=equitune")
    with killed_at(150):
        equirl_command("train", *keys, f"run_dir={runs[1]}")
    resumed = equirl_command("train", f"resume={runs[1]}")
    assert resumed.code == 0, resumed.err
    assert "resuming" in resumed.out
    whole, cut_off = (load_from_zip_file(run / "final_model.zip", device="cpu") for run in runs)
    for name, parameters in whole[1].items():
        assert str(parameters) == str(cut_off[1][name])
    assert all(torch.equal(v, (cut_off[2] or {})[k]) for k, v in (whole[2] or {}).items())
    assert curves(runs[0]) == curves(runs[1])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("env=cartpole", "algorithm=sac"), "dqn, ppo, a2c, qrdqn"),
        (("env=point_mass", "algorithm=dqn"), "ppo, a2c, sac, td3, ddpg, tqc"),
        (("env=cartpole", "algorithm=ppo", "method=native"), "native"),
        (("env=point_mass", "algorithm.use_sde=true"), "gSDE"),
        (("env=point_mass", "algorithm.ent_coef=little"), "algorithm.ent_coef"),
        (("env=point_mass", "algorithm=ppo", "compile=true"), "compile"),
        (("env=point_mass", "env.symmetry=bad:turned"), "commute with clipping"),
        (("env=point_mass", "env.symmetry=bad:twice"), "no finite group"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    refused: Refused, folder: Path, arguments: tuple[str, ...], named: str
) -> None:
    (folder / "bad.py").write_text(
        "import numpy as np\n"
        "turn = np.array([[0.6, -0.8], [0.8, 0.6]])\n"
        "turned = {'g': (lambda s: -s, lambda a: turn @ a)}\n"
        "twice = {'g': (lambda s: -s, lambda a: -2 * a)}\n"
    )
    assert named in refused("train", *arguments)
