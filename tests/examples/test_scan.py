"""SCAN: its grammar, its symmetries, and what they are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from equirl import GroupAction
from equirl.errors import ConfigError
from equirl.testing import assert_equivariant
from running import main
from scan import run as scan
from scan.grammar import EXCHANGED, SPLITS, commands
from scan.networks import OUTPUTS, Seq2Seq, Symmetries, encode


def test_the_grammar_gives_the_published_counts() -> None:
    assert len({words for words, _ in commands()}) == len(commands()) == 20910
    sizes = {name: tuple(map(len, split())) for name, split in SPLITS.items()}
    assert sizes == {"add_jump": (14670, 7706), "around_right": (15225, 4476)}


def test_commands_mean_what_the_paper_says() -> None:
    meaning = {" ".join(words): " ".join(actions) for words, actions in commands()}
    # Figure 1 of arXiv 1711.00350.
    assert meaning["jump opposite left"] == "LTURN LTURN JUMP"
    assert meaning["turn left twice"] == "LTURN LTURN"
    assert meaning["walk around right"] == "RTURN WALK RTURN WALK RTURN WALK RTURN WALK"
    assert meaning["walk after run"] == "RUN WALK"
    assert meaning["turn around left"] == "LTURN LTURN LTURN LTURN"


@pytest.mark.parametrize("split", SPLITS)
def test_the_grammar_has_the_symmetry_on_every_command(split: str) -> None:
    group = Symmetries(EXCHANGED[split])
    everything = encode(commands())
    meaning = dict(zip(map(tuple, everything[0].tolist()), everything[1].tolist(), strict=True))
    moved = group.commands.transform(1, everything[0])
    expected = group.answers(everything[1].shape[1]).transform(1, everything[1])
    assert [meaning[tuple(command)] for command in moved.tolist()] == expected.tolist()


@pytest.mark.covering(1)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_both_methods_are_exactly_equivariant(cell: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Seq2Seq(cell, 8).to(dtype)
    for words in EXCHANGED.values():
        group = Symmetries(words)
        command, _ = encode(commands()[1000:20000:4000])
        before = torch.randint(len(OUTPUTS), (len(command), 12))
        tokens = torch.cat([command, before], dim=1)
        points = GroupAction.direct_sum(group.commands, group.answers(12))
        with torch.no_grad():
            assert_equivariant(group.forced(model, 12), points, group.logits(12), tokens)
            equizero = group.equizero(model, 12)
            assert_equivariant(equizero, group.commands, group.logits(12), command)


def test_a_greedy_answer_is_right_where_every_action_is_after_the_right_ones() -> None:
    """Which is why `accuracy` generates nothing."""
    torch.manual_seed(1)
    model = Seq2Seq("gru", 8)
    command, _ = encode(commands()[:50])
    with torch.no_grad():
        answer = model.answer(command, 10).argmax(dim=-1)
        before = torch.cat([answer.new_zeros(50, 1), answer[:, :-1]], dim=1)
        forced = model(torch.cat([command, before], dim=1)).argmax(dim=-1)
    ended = (answer <= 1).cumsum(dim=1) - (answer <= 1).long() > 0
    assert ((forced == answer) | ended).all()


def test_words_and_sizes_that_are_not_there_are_named() -> None:
    with pytest.raises(ConfigError, match="jmp"):
        encode([(("jmp",), ("JUMP",))])
    with pytest.raises(ConfigError, match="most_actions"):
        encode([])
    with pytest.raises(ConfigError, match="twice"):
        Symmetries(("twice", "thrice"))


@pytest.mark.slow
def test_the_equivariant_networks_know_what_a_new_verb_does(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert main(scan.run, scan.DEFAULTS, scan.QUICK, ["--quick", f"out={out}"]) == 0
    row: dict[str, Any] = json.loads(out.read_text())["rows"][0]
    for method in ("equitune", "equizero"):
        assert float(row[f"{method}, tuned"]) > float(row["plain, tuned"]) + 30
