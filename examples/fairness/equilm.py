"""EquiLM: a causal language model that treats groups of people alike (arXiv 2210.06475)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized
from equirl.errors import ConfigError
from equirl.groups import cyclic
from fairness.language_models import Pieces, Words


def exchange(
    vocabulary: Words | Pieces, size: int, lists: Sequence[Sequence[str]]
) -> tuple[Tensor, list[str]]:
    """The cyclic group that moves each word of a list to the next, on tokens.

    A form of a word (with a space before it, or a capital) counts where all words of the list are
    one token in it. Other forms stay where they are.

    Args:
        vocabulary: of the language model.
        size: V, the number of tokens, which may be larger than that of the tokeniser.
        lists: such as ``[[man, woman], [he, she]]``, of equal length.

    Returns:
        Permutations ``[|G|, V]``, and a line for every list of which some form is left out.

    Raises:
        ConfigError: a list has no form in which all its words are one token, a word is in two
            lists, or the lists differ in length.
    """
    n = len(lists[0]) if lists else 0
    if n < 2 or any(len(words) != n for words in lists):
        raise ConfigError(f"exchange needs lists of equal length, at least 2, got {list(lists)}")
    table = torch.arange(size).repeat(n, 1)
    owner: dict[int, str] = {}
    notes = []
    for words in lists:
        forms = list(zip(*(vocabulary.forms(word) for word in words), strict=True))
        whole = {
            tuple(form[0] for form in each) for each in forms if all(len(f) == 1 for f in each)
        }
        if not whole:
            split = next(w for w in words if all(len(f) != 1 for f in vocabulary.forms(w)))
            raise ConfigError(
                f"the tokeniser splits {split!r} into several tokens, which no permutation of "
                f"tokens exchanges with one: leave {'/'.join(words)} out"
            )
        if len(whole) < len({str(each) for each in forms}):
            notes.append(f"{'/'.join(words)}: forms that the tokeniser splits are not exchanged")
        for tokens in whole:
            for word, token in zip(words, tokens, strict=True):
                if token in owner:
                    raise ConfigError(
                        f"{word!r} is in two lists: no permutation exchanges it twice"
                    )
                owner[token] = word
            for g in range(n):
                for k, token in enumerate(tokens):
                    table[g, token] = tokens[(k + g) % n]
    return table, notes


class EquiLM(nn.Module):
    """log p_G(next | x): p_G(g·next | g·x) = p_G(next | x) for every continuation.

    At every position the branches g⁻¹M(gx) of the log-probabilities are combined by weights of that
    position alone, so that the model remains causal: what follows is never looked at.

    Args:
        model: as `fairness.language_models` describes.
        permutations: ``[|G|, V]`` of the tokens, identity first; one row is the model itself.
        method: of `Symmetrized`.
        general: tokens that keep the model's own log-probabilities, up to the normalisation; with
            some, this is the relaxed EquiLM of the paper.
    """

    def __init__(
        self,
        model: nn.Module,
        permutations: Tensor,
        method: str = "equitune",
        general: Sequence[int] = (),
    ) -> None:
        super().__init__()
        group = cyclic(len(permutations))
        self.general = list(general)
        self.symmetrized = Symmetrized(
            model,
            GroupAction.on_tokens(group, permutations),
            GroupAction.on_vectors(group, permutations=permutations),
            method,
            feature_dim=int(model.feature_dim) if method == "lambda" else None,
        )

    def forward(self, tokens: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Log-probabilities ``[batch, n, V]`` of every next token, and the cache.

        Args:
            tokens: ``[batch, n]``, behind those that the cache stands for.
            cache: of the model along the orbit; what this gave for the tokens before.
        """
        orbit = self.symmetrized.orbit(tokens.flatten())
        found, features, cache = self.symmetrized.model(orbit.reshape(-1, tokens.shape[1]), cache)
        outputs = found.reshape(len(orbit), tokens.numel(), -1)
        features = features.reshape(len(orbit), tokens.numel(), -1)
        weights = self.symmetrized.weights(tokens.flatten(), outputs, features)
        combined = self.symmetrized.combine(outputs, weights)
        if self.general:
            combined[:, self.general] = outputs[0][:, self.general]
        return combined.log_softmax(dim=-1).view(*tokens.shape, -1), cache

    @torch.no_grad()
    def generate(self, tokens: Tensor, length: int) -> Tensor:
        """Sampled continuations ``[batch, length]``; every token is read once."""
        last, cache, written = tokens, None, []
        for _ in range(length):
            found, cache = self(last, cache)
            last = torch.multinomial(found[:, -1].exp(), 1)
            written.append(last)
        return torch.cat(written, dim=1)
