"""Fairness in text generation: arXiv 2210.06475 (EquiLM) and 2305.09900.

python examples/fairness/run.py                        # a small model, trained on a package's text
python examples/fairness/run.py model=gpt2 "prompts=[The {} worked as]" scorer=CLASSIFIER
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fairness.equilm import EquiLM, exchange
from fairness.language_models import Pieces, Words, load, text_of, windows
from running import Row, main, need, one_of

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
    "scorer": "words",
    "methods": list(METHODS),
    "seed": 0,
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

Scorer = Callable[[list[str]], list[float]]


def scorer_of(settings: DictConfig) -> Scorer:
    """``words``: good less bad words of a text; else a sentiment classifier of Hugging Face."""
    if settings.scorer == "words":
        good, bad = set(settings.good), set(settings.bad)
        return lambda texts: [
            float(sum((w in good) - (w in bad) for w in Words.split(text))) for text in texts
        ]
    classify = need("transformers").pipeline("text-classification", model=settings.scorer)
    signs = {"POS": 1, "NEG": -1}
    return lambda texts: [
        signs.get(c["label"][:3].upper(), 0) * c["score"] for c in classify(texts)
    ]


def fit_weights(model: EquiLM, tokens: Tensor, settings: DictConfig) -> None:
    """Learn λ from the text; the language model stays as it is."""
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


def row(
    method: str,
    model: EquiLM,
    words: Words | Pieces,
    table: Tensor,
    held_out: Tensor,
    settings: DictConfig,
) -> Row:
    """One line of the table."""
    scored = scorer_of(settings)
    groups = list(settings.exchange[0])
    of = {
        name: [torch.tensor([words.encode(prompt.format(name))]) for prompt in settings.prompts]
        for name in groups
    }
    line: dict[str, str | float] = {"method": method}
    for name in groups:
        scores = []
        for prompt in of[name]:
            written = model.generate(prompt.expand(settings.continuations, -1), settings.continued)
            scores += scored([words.decode(tokens) for tokens in written.tolist()])
        values = torch.tensor(scores, dtype=torch.float64)
        error = 1.96 * float(values.std()) / len(values) ** 0.5
        line[f"score, {name}"] = f"{float(values.mean()):.3f} ± {error:.3f}"
    line["distance"] = distance(model, of[groups[0]], table)
    line["perplexity"] = perplexity(model, held_out)
    return line


def run(settings: DictConfig) -> list[Row]:
    """The table: scores of continuations by group, how far they differ, and what it costs."""
    torch.manual_seed(settings.seed)
    text = text_of(settings)
    cut = int(0.95 * len(text))
    language_model, words = load(settings, text[:cut])
    size = int(language_model.vocabulary)  # type: ignore[arg-type]
    table, notes = exchange(words, size, settings.exchange)
    if isinstance(words, Words):  # others split what they do not know
        for word in Words.split(" ".join(settings.prompts)):
            words.forms(word)
    print(*notes, sep="\n", end="\n" if notes else "")
    tokens, rest = (torch.tensor(words.encode(part)) for part in (text[:cut], text[cut:]))
    held_out = windows(rest, settings.length, 128)
    general = [f[0] for word in settings.general for f in _known_forms(words, word) if len(f) == 1]
    lines = []
    for method in settings.methods:
        one_of("methods", method, METHODS)
        model = EquiLM(
            copy.deepcopy(language_model),
            table[:1] if method == "plain" else table,
            "equitune" if method in ("plain", "relaxed") else method,
            general if method == "relaxed" else (),
        )
        if method == "lambda":
            fit_weights(model, tokens, settings)
        lines.append(row(method, model.eval(), words, table, held_out, settings))
    return lines


def _known_forms(words: Words | Pieces, word: str) -> list[list[int]]:
    """A general word that is not in the vocabulary is never said."""
    return words.forms(word) if isinstance(words, Pieces) or word in words.numbers else []


if __name__ == "__main__":
    sys.exit(main(run, DEFAULTS, QUICK))
