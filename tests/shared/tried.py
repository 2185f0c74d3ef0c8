"""How many examples Hypothesis tries: few by default, five times as many when asked for."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("thorough", max_examples=5 * settings.default.max_examples)


def examples(count: int) -> int:
    """So many of the default profile, in proportion of any other: ``--hypothesis-profile``."""
    return max(1, count * settings.default.max_examples // 100)
