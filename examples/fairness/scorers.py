"""What a text says of people: good or bad."""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from equirl.errors import ConfigError
from fairness.language_models import Words
from running import hugging_face, need, quietly

Scorer = Callable[[list[str]], list[float]]


def scorer_of(name: str, settings: DictConfig) -> Scorer:
    """``words``: good less bad words; ``vader``; else a sentiment classifier of Hugging Face.

    Raises:
        ConfigError: the package or the classifier is missing.
    """
    if name == "words":
        good, bad = set(settings.good), set(settings.bad)
        return lambda texts: [
            float(sum((w in good) - (w in bad) for w in Words.split(text))) for text in texts
        ]
    if name == "vader":  # by a lexicon and rules for negation and degree, in [-1, 1]
        package = need("vaderSentiment.vaderSentiment", "vaderSentiment")
        polarity = package.SentimentIntensityAnalyzer().polarity_scores
        return lambda texts: [polarity(text)["compound"] for text in texts]
    pipeline = hugging_face().pipeline
    try:
        with quietly():
            classify = pipeline("text-classification", model=name, device=settings.device)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"scorers must be words, vader or a classifier that is in the cache or can be "
            f"downloaded, got {name!r} ({type(error).__name__})"
        ) from None
    signs = {"POS": 1, "NEG": -1}
    return lambda texts: [
        signs.get(c["label"][:3].upper(), 0) * c["score"] for c in classify(texts)
    ]
