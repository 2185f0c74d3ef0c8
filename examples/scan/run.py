"""Compositional generalisation on SCAN: arXiv 2210.06475 and 2305.09900.

python examples/scan/run.py split=around_right cells=[lstm] seeds=3 device=cuda
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from running import Row, each_seed, main, one_of, over_seeds
from scan.grammar import EXCHANGED, SPLITS
from scan.networks import CELLS, Seq2Seq, Symmetries, encode

DEFAULTS = {
    "split": "add_jump",
    "cells": ["rnn", "gru", "lstm"],
    "seeds": 3,
    "hidden": 64,
    "batch": 64,
    "steps": 4000,
    "tuning_steps": 400,
    "lr": 3e-3,
    "tuning_lr": 1e-3,
    "most_actions": 48,
    "tested": 1000,
}
QUICK = {
    "cells": ["gru"],
    "seeds": 1,
    "steps": 300,
    "tuning_steps": 30,
    "lr": 1e-2,
    "most_actions": 8,
    "tested": 200,
}

Data = tuple[Tensor, Tensor]
"""Commands and answers."""


def train(
    model: Seq2Seq, method: str, group: Symmetries, data: Data, steps: int, settings: DictConfig
) -> None:
    """Fit the answers: the negative log-likelihood of every action, given those before."""
    commands, answers = data
    lr = settings.lr if method == "none" else settings.tuning_lr
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    longest = answers.shape[1]
    forced, equizero = group.forced(model, longest), group.equizero(model, longest)
    for _ in range(steps):
        rows = torch.randint(len(commands), (settings.batch,))
        command, answer = commands[rows], answers[rows]
        tokens = torch.cat([command, F.pad(answer, (1, 0))[:, :-1]], dim=1)
        if method == "equitune":
            predicted = forced(tokens)
        elif method == "equizero":
            with torch.no_grad():
                weights = equizero.weights(command)
            predicted = forced(tokens, weights=weights)
        else:
            predicted = model(tokens)
        loss = F.cross_entropy(predicted.transpose(1, 2), answer, ignore_index=0)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: Seq2Seq, method: str, group: Symmetries, data: Data) -> float:
    """Answers that are right from beginning to end, in per cent.

    Of a greedy answer all actions are right if and only if each is the likeliest after the right
    ones before; so nothing is generated, but by equizero, whose choice looks at the whole answer.
    """
    right = []
    for commands, answers in zip(data[0].split(500), data[1].split(500), strict=True):
        longest = answers.shape[1]
        tokens = torch.cat([commands, F.pad(answers, (1, 0))[:, :-1]], dim=1)
        if method == "equizero":
            predicted = group.equizero(model, longest)(commands)
        else:
            predicted = (group.forced(model, longest) if method == "equitune" else model)(tokens)
        right.append(((predicted.argmax(dim=-1) == answers) | (answers == 0)).all(dim=1))
    return 100 * float(torch.cat(right).double().mean())


def drawn(data: Data, n: int) -> Data:
    """n of them at random."""
    rows = torch.randperm(len(data[0]))[:n]
    return data[0][rows], data[1][rows]


def one_seed(settings: DictConfig, cell: str, seed: int) -> dict[str, float]:
    """Accuracy by column, on the commands that are new."""
    torch.manual_seed(seed)
    learning, test = (
        encode([e for e in part if len(e[1]) <= settings.most_actions], settings.device)
        for part in SPLITS[settings.split]()
    )
    seen, test = drawn(learning, settings.tested), drawn(test, settings.tested)
    group = Symmetries(EXCHANGED[settings.split])
    model = Seq2Seq(cell, settings.hidden).to(settings.device)
    train(model, "none", group, learning, settings.steps, settings)
    found = {"seen": accuracy(model, "plain", group, seen)}
    for method in ("plain", "equitune", "equizero"):
        found[f"{method}, zero-shot"] = accuracy(model, method, group, test)
        tuned = copy.deepcopy(model).to(settings.device)  # which lays its weights out again
        train(tuned, method, group, learning, settings.tuning_steps, settings)
        found[f"{method}, tuned"] = accuracy(tuned, method, group, test)
    return found


def run(settings: DictConfig) -> list[Row]:
    """The table: accuracy in per cent, mean over seeds with its 95 % interval."""
    one_of("split", settings.split, tuple(SPLITS))
    for cell in settings.cells:
        one_of("cells", cell, tuple(CELLS))
    rows = []
    for cell in settings.cells:
        found = [one_seed(settings, cell, seed) for seed in each_seed(settings)]
        columns = {column: over_seeds([seed[column] for seed in found]) for column in found[0]}
        rows.append({"network": cell, **columns})
    return rows


if __name__ == "__main__":
    sys.exit(main(run, DEFAULTS, QUICK))
