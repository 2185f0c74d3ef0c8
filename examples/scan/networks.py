"""Recurrent sequence-to-sequence networks M: command → actions, and their symmetrized forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized
from equirl.errors import ConfigError
from equirl.groups import FiniteGroup, cyclic
from equirl.shown import nearest
from scan.grammar import ACTIONS, TURNS, VERBS, WORDS, Example

INPUTS = ("<pad>", *WORDS)
OUTPUTS = ("<pad>", "<end>", *ACTIONS)
LONGEST_COMMAND, LONGEST_ANSWER = 9, 49
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CERTAIN = 30.0
"""Logit of the padding behind the end, which costs no probability."""


def encode(examples: Sequence[Example], device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Commands ``[n, 9]``, padded on the left, and answers ``[n, longest]`` ending in <end>.

    Raises:
        ConfigError: a word is not in the vocabulary, or there are no examples.
    """
    if not examples:
        raise ConfigError("no command has so few actions: raise most_actions")
    longest = 1 + max(len(actions) for _, actions in examples)
    commands = np.zeros((len(examples), LONGEST_COMMAND), dtype=np.int64)
    answers = np.zeros((len(examples), longest), dtype=np.int64)
    for row, (words, actions) in enumerate(examples):
        for word in words:
            if word not in WORDS:
                raise ConfigError(f"{word!r} is not in the vocabulary{nearest(word, WORDS)}")
        commands[row, LONGEST_COMMAND - len(words) :] = [INPUTS.index(word) for word in words]
        answers[row, : len(actions) + 1] = [*(OUTPUTS.index(a) for a in actions), 1]
    return torch.from_numpy(commands).to(device), torch.from_numpy(answers).to(device)


class Seq2Seq(nn.Module):
    """An encoder, whose last state is the first of a decoder; one layer each, no attention."""

    def __init__(self, cell: str, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(INPUTS), hidden)
        self.actions = nn.Embedding(len(OUTPUTS), hidden)
        self.encoder = CELLS[cell](hidden, hidden, batch_first=True)
        self.decoder = CELLS[cell](hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, len(OUTPUTS))

    def forward(self, tokens: Tensor) -> Tensor:
        """Log-probabilities ``[rows, n, V]`` of every next action.

        Args:
            tokens: ``[rows, 9 + n]``: a command and the n actions before, the first <pad>.
        """
        command, before = tokens[:, :LONGEST_COMMAND], tokens[:, LONGEST_COMMAND:]
        _, state = self.encoder(self.words(command))
        hidden, _ = self.decoder(self.actions(before), state)
        return self.head(hidden).log_softmax(dim=-1)

    def answer(self, command: Tensor, longest: int = LONGEST_ANSWER) -> Tensor:
        """Log-probabilities ``[rows, longest, V]`` along the network's own greedy answer."""
        _, state = self.encoder(self.words(command))
        last, steps = command.new_zeros(len(command), 1), []
        done = torch.zeros_like(command[:, 0], dtype=torch.bool)
        padding = torch.full_like(self.head.bias, -CERTAIN)
        padding[0] = 0
        for _ in range(longest):
            hidden, state = self.decoder(self.actions(last), state)
            step = self.head(hidden[:, 0]).log_softmax(dim=-1)
            steps.append(torch.where(done[:, None], padding, step))
            last = steps[-1].argmax(dim=-1, keepdim=True)
            done = done | (last[:, 0] <= 1)
        return torch.stack(steps, dim=1)


def likelihood(answer: Tensor) -> Tensor:
    """``[rows, n, V] -> [rows]``: log-probability of the greedy answer, equizero's score."""
    return answer.amax(dim=-1).sum(dim=-1)


def cycle(vocabulary: Sequence[str], words: Sequence[str]) -> list[list[int]]:
    """``[|G|, V]``: powers of the permutation that moves each of the words to the next."""
    table = []
    for g in range(len(words)):
        moved = {word: words[(k + g) % len(words)] for k, word in enumerate(words)}
        table.append([vocabulary.index(moved.get(word, word)) for word in vocabulary])
    return table


class Symmetries:
    """The cyclic group that exchanges words, on commands, on answers and on their logits.

    Args:
        words: that are moved, each to the next; verbs, or directions.
    """

    def __init__(self, words: Sequence[str]) -> None:
        meaning = {**VERBS, **TURNS}
        unknown = [word for word in words if word not in meaning]
        if unknown:
            raise ConfigError(
                f"{unknown[0]!r} has no action of its own{nearest(unknown[0], meaning)}"
            )
        self.group: FiniteGroup = cyclic(len(words))
        self.inputs = cycle(INPUTS, words)
        self.outputs = cycle(OUTPUTS, [meaning[word] for word in words])
        self.commands = GroupAction.on_tokens(self.group, self.inputs, LONGEST_COMMAND)

    def answers(self, longest: int) -> GroupAction:
        """On actions ``[longest]``."""
        return GroupAction.on_tokens(self.group, self.outputs, longest)

    def logits(self, longest: int) -> GroupAction:
        """On logits ``[longest, V]``."""
        return GroupAction.on_vectors(self.group, permutations=self.outputs).copies(longest)

    def forced(self, model: Seq2Seq, longest: int) -> Symmetrized:
        """Σ_g w_g(x) g⁻¹M(gx, gy): with the actions y before given, as in training."""
        points = GroupAction.direct_sum(self.commands, self.answers(longest))
        return Symmetrized(model, points, self.logits(longest), "equitune")

    def equizero(self, model: Seq2Seq, longest: int) -> Symmetrized:
        """g⁻¹M(gx) of the g whose whole greedy answer M finds likeliest."""

        def answer(command: Tensor) -> Tensor:
            return model.answer(command, longest)

        logits = self.logits(longest)
        return Symmetrized(answer, self.commands, logits, "equizero", score=likelihood)
