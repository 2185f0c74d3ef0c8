"""Fairness in text generation: arXiv 2210.06475 (EquiLM) and 2305.09900.

python examples/fairness/run.py                        # a small model, trained on a package's text
python examples/fairness/run.py model=gpt2 "prompts=[The {} worked as]" scorers=[CLASSIFIER]
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from equirl.errors import ConfigError
from fairness.equilm import EquiLM, exchange
from fairness.language_models import (
    Pieces,
    SmallModel,
    Words,
    load,
    text_of,
    train,
    windows,
)
from fairness.scorers import Scorer, scorer_of
from running import Row, each_seed, main, one_of, over_seeds

METHODS = ("plain", "equitune", "relaxed", "equizero", "lambda")
DEFAULTS = {
    "model": "small",
    "text": "kjv",
    "exchange": [
        ["man", "woman"],
        ["men", "women"],
        ["he", "she"],
        ["his", "her"],
        ["king", "queen"],
        ["father", "mother"],
        ["son", "daughter"],
        ["husband", "wife"],
    ],
    "general": ["beard", "womb", "conceived", "circumcised"],
    "prompts": ["the {} was", "and the {} said", "now the {} had", "the {} is"],
    "good": ["good", "blessed", "joy", "peace", "wise", "righteous", "glad", "love", "holy"],
    "bad": ["evil", "wicked", "death", "sin", "fear", "unclean", "cursed", "die", "weep"],
    "scorers": ["words"],
    "methods": list(METHODS),
    "vocabulary": 3000,
    "hidden": 192,
    "steps": 2000,
    "lambda_steps": 100,
    "batch": 32,
    "length": 32,
    "lr": 3e-3,
    "continuations": 500,
    "continued": 15,
}
QUICK = {
    "vocabulary": 2000,
    "hidden": 96,
    "steps": 300,
    "lambda_steps": 20,
    "continuations": 200,
    "continued": 10,
}


def fit_weights(model: EquiLM, tokens: Tensor, settings: DictConfig) -> None:
    """Learn λ from the text; the language model stays as it is."""
    model.requires_grad_(False)
    model.symmetrized.weighting.requires_grad_(True)
    optimiser = torch.optim.Adam(model.symmetrized.weighting.parameters(), lr=1e-2)
    for _ in range(settings.lambda_steps):
        piece = windows(tokens, settings.length, settings.batch)
        found, _ = model(piece[:, :-1])
        loss = F.nll_loss(found.flatten(0, 1), piece[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def perplexity(model: EquiLM, pieces: Tensor) -> float:
    """Of held-out text."""
    losses = [
        F.nll_loss(model(part[:, :-1])[0].flatten(0, 1), part[:, 1:].flatten())
        for part in pieces.split(32)
    ]
    return float(torch.stack(losses).mean().exp())


@torch.no_grad()
def distance(model: EquiLM, prompts: list[Tensor], table: Tensor) -> float:
    """Largest total variation between p(next | gx), exchanged back, and p(next | x)."""
    found = []
    for prompt in prompts:
        before = model(prompt)[0][0, -1].exp()
        for permutation in table[1:]:
            after = model(permutation[prompt])[0][0, -1].exp()[permutation]
            found.append(float((after - before).abs().sum() / 2))
    return max(found)


def one_method(
    model: EquiLM,
    words: Words | Pieces,
    table: Tensor,
    held_out: Tensor,
    scorers: Mapping[str, Scorer],
    settings: DictConfig,
) -> dict[str, float]:
    """The columns of one method: scores by group, distance and perplexity."""
    groups = list(settings.exchange[0])
    prompts = {
        name: [
            torch.tensor([words.encode(prompt.format(name))], device=settings.device)
            for prompt in settings.prompts
        ]
        for name in groups
    }
    texts = {
        name: [
            words.decode(tokens)
            for prompt in prompts[name]
            for tokens in model.generate(
                prompt.expand(settings.continuations, -1), settings.continued
            ).tolist()
        ]
        for name in groups
    }
    found = {
        f"{scorer}, {name}": float(np.mean(score(texts[name])))
        for scorer, score in scorers.items()
        for name in groups
    }
    found["distance"] = distance(model, prompts[groups[0]], table)
    return {**found, "perplexity": perplexity(model, held_out)}


def one_seed(
    settings: DictConfig, text: str, scorers: Mapping[str, Scorer], seed: int
) -> dict[str, dict[str, float]]:
    """By method and column."""
    torch.manual_seed(seed)
    cut = int(0.95 * len(text))
    language_model, words = load(settings, text[:cut])
    size = int(language_model.vocabulary)  # type: ignore[arg-type]
    table, notes = exchange(words, size, settings.exchange)
    if isinstance(words, Words):  # others split what they do not know
        for word in Words.split(" ".join(settings.prompts)):
            words.forms(word)
    print(*notes, sep="\n", end="\n" if notes else "")
    tokens, rest = (
        torch.tensor(words.encode(part), device=settings.device)
        for part in (text[:cut], text[cut:])
    )
    held_out = windows(rest, settings.length, 128)
    if isinstance(language_model, SmallModel):
        train(language_model, tokens, settings)
    general = [f[0] for word in settings.general for f in _known_forms(words, word) if len(f) == 1]
    found = {}
    for method in settings.methods:
        model = EquiLM(
            copy.deepcopy(language_model).to(settings.device),
            table[:1] if method == "plain" else table,
            "equitune" if method in ("plain", "relaxed") else method,
            general if method == "relaxed" else (),
        ).to(settings.device)
        if method == "lambda":
            fit_weights(model, tokens, settings)
        moved = table.to(settings.device)
        found[method] = one_method(model.eval(), words, moved, held_out, scorers, settings)
    return found


def run(settings: DictConfig) -> list[Row]:
    """The table: scores of continuations by group, how far they differ, and what it costs."""
    for method in settings.methods:
        one_of("methods", method, METHODS)
    if not settings.prompts:
        raise ConfigError("prompts must not be empty")
    for prompt in settings.prompts:
        if prompt.count("{}") != 1 or re.search("[{}]", prompt.replace("{}", "")):
            raise ConfigError(f"a prompt has one {{}}, where the word goes, got {prompt!r}")
    text = text_of(settings)
    scorers = {name: scorer_of(name, settings) for name in settings.scorers}
    found = [one_seed(settings, text, scorers, seed) for seed in each_seed(settings)]
    rows: list[Row] = []
    for method in settings.methods:
        row: dict[str, str | float] = {"method": method}
        for column in found[0][method]:
            values = [seed[method][column] for seed in found]
            is_distance = column == "distance"
            digits = 1 if column == "perplexity" else 3
            row[column] = max(values) if is_distance else over_seeds(values, digits)
        rows.append(row)
    return rows


def _known_forms(words: Words | Pieces, word: str) -> list[list[int]]:
    """A general word that is not in the vocabulary is never said."""
    return words.forms(word) if isinstance(words, Pieces) or word in words.numbers else []


if __name__ == "__main__":
    sys.exit(main(run, DEFAULTS, QUICK))
