"""A replay buffer comes back from its files as it was, however often they were written."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from equirl.agents import DeviceDictReplayBuffer, DeviceReplayBuffer
from equirl.agents.replay.replay_rows import MAX_FILES, ReplayRows, _columns, _read
from shared.tried import examples

BOX = spaces.Box(-1, 1, (2,))
KINDS: dict[type[ReplayBuffer], spaces.Space[Any]] = {
    ReplayBuffer: BOX,
    NStepReplayBuffer: BOX,
    DictReplayBuffer: spaces.Dict({"a": BOX, "b": spaces.MultiBinary(3)}),
    DeviceReplayBuffer: BOX,
    DeviceDictReplayBuffer: spaces.Dict({"a": BOX, "b": spaces.MultiBinary(3)}),
}
SIZE, N_ENVS = 10, 2


def new_buffer(kind: type[ReplayBuffer]) -> ReplayBuffer:
    return kind(SIZE * N_ENVS, KINDS[kind], spaces.Discrete(3), device="cpu", n_envs=N_ENVS)


def add(buffer: ReplayBuffer, random: np.random.Generator) -> None:
    def observations() -> Any:
        if isinstance(buffer.observation_space, spaces.Dict):
            return {
                key: random.integers(0, 2, (N_ENVS, *space.shape)).astype(space.dtype)
                for key, space in buffer.observation_space.items()
            }
        return random.normal(size=(N_ENVS, 2)).astype(np.float32)

    infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(i)} for i in range(N_ENVS)]
    actions, rewards = random.integers(0, 3, N_ENVS), random.normal(size=N_ENVS)
    buffer.add(observations(), observations(), actions, rewards, rewards > 1, infos)


def content(buffer: ReplayBuffer) -> dict[str, Any]:
    rows = slice(0, SIZE if buffer.full else buffer.pos)
    columns = {name: _read(column, rows) for name, column in _columns(buffer)}
    assert {"actions", "rewards", "dones", "timeouts"} < columns.keys()
    return {**columns, "pos": np.array(buffer.pos), "full": np.array(buffer.full)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(5), deadline=None)
@given(rounds=st.lists(st.integers(0, 25), min_size=1, max_size=6), resumed=st.booleans())
def test_a_buffer_comes_back_as_it_was(
    kind: type[ReplayBuffer], rounds: list[int], resumed: bool
) -> None:
    buffer, random, calls = new_buffer(kind), np.random.default_rng(0), 5
    with TemporaryDirectory() as folder:
        rows = ReplayRows(Path(folder))
        for count in rounds:
            for _ in range(count):
                add(buffer, random)
            calls += count
            names = rows.write(buffer, calls)
            again, reading = new_buffer(kind), ReplayRows(Path(folder))
            reading.read(again, names, calls)
            np.testing.assert_equal(content(again), content(buffer))
            if resumed:
                buffer, rows = again, reading
            rows.remove_all_but(set(names))
            assert {path.name for path in Path(folder).iterdir()} == set(names)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_last_row_that_is_changed_is_written_again(is_read: bool, tmp_path: Path) -> None:
    buffer, random, rows = new_buffer(ReplayBuffer), np.random.default_rng(0), ReplayRows(tmp_path)
    for _ in range(SIZE + 3):
        add(buffer, random)
    names = rows.write(buffer, SIZE + 3)
    if is_read:
        buffer, rows = new_buffer(ReplayBuffer), ReplayRows(tmp_path)
        rows.read(buffer, names, SIZE + 3)
    buffer.dones[buffer.pos - 1] = 7
    rows.write_last_again()
    for calls in (SIZE + 5, SIZE + 6):
        while buffer.pos < calls % SIZE:
            add(buffer, random)
        names = rows.write(buffer, calls)
        again = new_buffer(ReplayBuffer)
        ReplayRows(tmp_path).read(again, names, calls)
        np.testing.assert_equal(content(again), content(buffer))
    assert names[-1] == f"rows_{SIZE + 5}_{SIZE + 6}.npz"


def test_only_new_rows_are_written_and_few_files_are_left(tmp_path: Path) -> None:
    buffer, random = new_buffer(ReplayBuffer), np.random.default_rng(0)
    rows = ReplayRows(tmp_path)
    buffer = ReplayBuffer(2000, BOX, spaces.Discrete(3), device="cpu", n_envs=N_ENVS)
    for call in range(1, 2 * MAX_FILES):
        add(buffer, random)
        names = rows.write(buffer, call)
        assert len(names) <= MAX_FILES
        assert names[-1] == f"rows_{0 if call == MAX_FILES + 1 else call - 1}_{call}.npz"
