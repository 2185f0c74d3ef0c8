"""The SCAN data set by its grammar (Lake & Baroni, arXiv 1711.00350), and two of its splits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

VERBS = {"walk": "WALK", "look": "LOOK", "run": "RUN", "jump": "JUMP"}
TURNS = {"left": "LTURN", "right": "RTURN"}
WORDS = ("and", "after", "twice", "thrice", "opposite", "around", "turn", *TURNS, *VERBS)
ACTIONS = (*TURNS.values(), *VERBS.values())

Example = tuple[tuple[str, ...], tuple[str, ...]]
"""The words of a command, and its actions."""


def phrases() -> Iterator[Example]:
    """V: a verb, with or without a direction."""
    for verb, action in VERBS.items():
        yield (verb,), (action,)
    for verb, direction in itertools.product(("turn", *VERBS), TURNS):
        turn = (TURNS[direction],)
        action = (VERBS[verb],) if verb in VERBS else ()
        yield (verb, direction), turn + action
        yield (verb, "opposite", direction), turn + turn + action
        yield (verb, "around", direction), (turn + action) * 4


def sentences() -> Iterator[Example]:
    """S: a phrase once, twice or thrice."""
    for words, actions in phrases():
        yield words, actions
        yield (*words, "twice"), actions * 2
        yield (*words, "thrice"), actions * 3


def commands() -> list[Example]:
    """C: a sentence, or two joined by *and* or *after*; 20,910 in all."""
    alone = list(sentences())
    pairs = list(itertools.product(alone, alone))
    joined = [((*a, "and", *b), do_a + do_b) for (a, do_a), (b, do_b) in pairs]
    reversed_ = [((*a, "after", *b), do_b + do_a) for (a, do_a), (b, do_b) in pairs]
    return alone + joined + reversed_


def add_jump() -> tuple[list[Example], list[Example]]:
    """*jump* is learned alone, 1,467 times, a tenth of the set; all else with it is tested."""
    known = [(words, do) for words, do in commands() if "jump" not in words]
    new = [(words, do) for words, do in commands() if "jump" in words and words != ("jump",)]
    return known + [(("jump",), ("JUMP",))] * 1467, new


def around_right() -> tuple[list[Example], list[Example]]:
    """*around right* is new (Loula et al., arXiv 1807.07545); *turn around right* is in neither."""
    known, new = [], []
    for words, do in commands():
        text = " ".join(words)
        if "around right" not in text:
            known.append((words, do))
        elif "turn around right" not in text:
            new.append((words, do))
    return known, new


SPLITS = {"add_jump": add_jump, "around_right": around_right}
"""By name: functions that give training and test examples."""

EXCHANGED = {"add_jump": tuple(VERBS), "around_right": tuple(TURNS)}
"""By split: the words that the cyclic group moves, each to the next."""
