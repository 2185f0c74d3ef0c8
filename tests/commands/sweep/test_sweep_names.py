"""Every run of a sweep has a folder of its own, the same one whenever the sweep is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf, open_dict

from equirl.commands.sweep.jobs import Job, current_job, sweep_name
from equirl.configs.schema import register_schemas

JobOf = Callable[[Sequence[str]], Job]


@pytest.fixture(scope="module")
def job_of() -> Iterator[JobOf]:
    """The job of these overrides."""
    register_schemas()

    def job(overrides: Sequence[str]) -> Job:
        open_keys = ("algorithm.", "method.")  # as `main` gives them to Hydra
        given = [f"++{o}" if o.startswith(open_keys) else o for o in overrides]
        arguments = ["hydra.sweep.dir=sweep", *given]
        config = compose("train", overrides=arguments, return_hydra_config=True)
        HydraConfig.instance().set_config(config.copy())
        with open_dict(config):
            del config["hydra"]
        return current_job(config)

    with initialize_config_module("equirl.configs", version_base="1.3"):
        yield job
    HydraConfig.instance().cfg = None


VALUES = {
    "env": st.sampled_from(["cartpole", "acrobot"]),
    "method": st.sampled_from(["equizero", "canonical"]),
    "seed": st.integers(0, 11),
    "total_timesteps": st.sampled_from([100, 1000]),
    "algorithm.learning_rate": st.sampled_from(["1e-3", "0.001", "1e-4"]),
    "algorithm.net_arch": st.sampled_from(["[8]", "[8,8]", "null"]),
    "algorithm.target_update_interval": st.sampled_from([1, 11]),
    "method.gradient": st.sampled_from(["selected", "straight_through"]),
}
OVERRIDES = st.fixed_dictionaries(
    {key: VALUES[key] for key in ("env", "method")},
    optional={key: VALUES[key] for key in VALUES if key not in ("env", "method")},
).map(lambda chosen: [f"{key}={value}" for key, value in chosen.items()])


@settings(max_examples=12, deadline=None)
@given(one=OVERRIDES, other=OVERRIDES)
@pytest.mark.slow
def test_runs_of_different_configurations_have_different_folders(
    job_of: JobOf, one: list[str], other: list[str]
) -> None:
    ours, theirs = job_of(one), job_of(other)
    ours_learn, theirs_learn = ours.config.copy(), theirs.config.copy()
    ours_learn.run_dir = theirs_learn.run_dir = ""
    if ours_learn != theirs_learn:
        assert ours.run_dir != theirs.run_dir
        assert ours.name != theirs.name
    assert ours == job_of(list(one))
    assert ours.run_dir.parent == Path("sweep")
    assert len(ours.name.encode()) < 200


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["env=cartpole", "method=plain", "seed=3"], "cartpole-plain-seed3"),
        (["env=cartpole", "seed=3", "device=cpu", "threads=2"], "cartpole-lambda-seed3"),
        (["env.id=equirl/Snake-v0", "method=plain"], "equirl-Snake-v0-plain-seed0"),
        (
            ["env=cartpole", "algorithm.learning_rate=0.001"],
            "cartpole-lambda-seed0-learning_rate_0.001",
        ),
    ],
)
def test_a_name_says_what_is_particular_to_a_run(
    job_of: JobOf, overrides: list[str], name: str
) -> None:
    assert job_of(overrides).run_dir == Path("sweep") / name


def test_a_run_with_the_widths_of_its_pretrained_agent_is_found_again(
    job_of: JobOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = job_of(["env=cartpole", "method=plain", "pretrained=agent.zip"])
    written = job.config.copy()
    written.algorithm.net_arch = [8]
    job.run_dir.mkdir(parents=True)
    OmegaConf.save(written, job.run_dir / "config.yaml", resolve=True)
    assert job.changes() == []


def test_a_sweep_has_one_name_in_whatever_order_it_is_written() -> None:
    names = {
        sweep_name(["env=acrobot,cartpole", "method=plain, lambda", "seed=0,1"]),
        sweep_name(["seed=range(0,5)", "method=lambda,plain", "env=cartpole,acrobot"]),
    }
    assert names == {"acrobot+cartpole-lambda+plain"}
    assert sweep_name(["+experiment=paper", "env=acrobot"]) == "paper"
