"""Reports and counter-examples as people read them: names, and only what differs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equirl.verification.verdicts import CounterExample, SymmetryReport, Verdict

MEANING = {"dynamics": "next observation", "reward": "reward", "termination": "terminated"}
"""What a counter-example shows, by quantity."""

WORDS = {"holds": "holds", "refused": "REFUSED", "undecided": "undecided"}

MOST_ENTRIES = 12
"""Entries shown of one observation."""

LARGEST_BOARD = 16
"""Arrays of at most this many rows and columns are shown as tables."""


def as_table(report: SymmetryReport, title: str | None = None) -> Table:
    """The verdicts as a table for rich."""
    table = Table(
        "generator", "what", "verdict", "how", "", title=None if title is None else escape(title)
    )
    for v in report.verdicts:
        word = WORDS[v.outcome]
        if v.quantity == "initial states" and v.outcome == "refused":
            word = "differ (harmless)"
        how = f"{v.method}, n = {v.looked_at}"
        table.add_row(escape(v.generator), v.quantity, word, how, escape(_remark(v)))
    return table


def as_text(report: SymmetryReport, width: int = 100) -> str:
    """The table, counter-examples and conclusion as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, no_color=True).print(as_table(report))
    lines = [explained(v) for v in report.verdicts if v.counter_example is not None]
    return "\n".join([out.getvalue().rstrip(), *lines, *report.remarks, conclusion(report)])


def conclusion(report: SymmetryReport) -> str:
    """The report in one line."""
    if not report.verdicts:
        return "nothing to check: the declaration has no generator that moves anything"
    if report.holds:
        return "the symmetry holds"
    if report.is_refuted:
        return "NOT a symmetry"
    open_ones = report.undecided
    what = ", ".join(dict.fromkeys(f"{v.generator} ({v.quantity})" for v in open_ones))
    reasons = "; ".join(dict.fromkeys(v.detail for v in open_ones if v.detail))
    return f"undecided for {what}: {reasons}"


def _remark(v: Verdict) -> str:
    if v.outcome == "undecided":
        return v.detail
    size = f"p = {v.size:.2g}"
    if v.method == "exact":
        size = f"error {v.size:.1g}"
    elif v.method == "law":
        size = f"probabilities differ by {v.size:.2g}" if v.size else ""
    return "; ".join(part for part in (size, v.detail) if part)


def explained(verdict: Verdict) -> str:
    """A counter-example in a few lines, and where on the board others are."""
    example = verdict.counter_example
    if example is None:
        return ""
    return "\n".join([_explained(verdict, example), *_map(verdict)])


def _map(verdict: Verdict) -> list[str]:
    """How plainly it fails by the cell of a board, as a table."""
    board = verdict.board
    if board is None:
        return []
    largest = max(float(np.nanmax(np.abs(board.shares))), 1e-12)
    of = f"{largest:.0%} of the steps differ" if verdict.method != "statistical" else "the most"
    lines = [f"  where, by the cell with {board.what} (9: {of}; 0: none; . hardly seen):"]
    for row in board.shares:
        digits = ["." if np.isnan(x) else f"{max(0, round(9 * x / largest))}" for x in row]
        lines.append(f"    {' '.join(digits)}")
    return lines


def _explained(verdict: Verdict, example: CounterExample) -> str:
    what = MEANING.get(verdict.quantity, verdict.quantity)
    lines = [f"\n{verdict.generator} fails for {verdict.quantity}; the plainest example:"]
    if example.tally:
        lines += [
            *_state("s", example.observation, example.action),
            *_state("gs", example.moved_observation, example.moved_action),
            *(f"  {line}" for line in example.tally),
        ]
        if verdict.quantity == "dynamics" and verdict.method == "statistical":
            lines += _differing(example)
        return "\n".join(lines)
    lines += [
        f"  from s  = {_whole(example.observation)}, action {_whole(example.action)}",
        f"  so from gs = {_whole(example.moved_observation)}, "
        f"action {_whole(example.moved_action)}",
    ]
    if example.nearest_observation is not None:
        lines.append(f"  (nearest state seen: {_whole(example.nearest_observation)})")
    if verdict.quantity != "dynamics":
        lines.append(f"  {what} should be {_whole(example.expected)}, is {_whole(example.found)}")
        return "\n".join(lines)
    return "\n".join([*lines, f"  {what} should be, and is:", *_differing(example)])


def _differing(example: CounterExample) -> list[str]:
    """Entry by entry what should be and what is, only where they differ, the worst first."""
    found, expected = example.found, example.expected
    pairs = (
        [(str(key), expected[key], found[key]) for key in expected]
        if isinstance(expected, dict)
        else [("s'", expected, found)]
    )
    lines: list[str] = []
    for name, wanted, got in pairs:
        one, two = np.asarray(wanted), np.asarray(got)
        apart = np.abs(one.astype(float) - two.astype(float))
        if apart.max(initial=0) < 1e-9:
            continue
        if one.ndim == 2 and max(one.shape) <= LARGEST_BOARD:
            lines += _boards(name, one, two)
            continue
        order = np.argsort(-apart.reshape(-1), kind="stable")
        shown = [i for i in order if apart.reshape(-1)[i] > 1e-9]
        for i in sorted(shown[:MOST_ENTRIES]):
            place = np.unravel_index(i, one.shape) if one.ndim else ()
            index = f"[{', '.join(str(int(p)) for p in place)}]" if one.ndim else ""
            lines.append(f"    {name}{index} {_number(one[place])}, is {_number(two[place])}")
        if len(shown) > MOST_ENTRIES:
            lines.append(f"    and {len(shown) - MOST_ENTRIES} entries more of {name}")
    return lines


def _boards(name: str, expected: Any, found: Any) -> list[str]:
    """Two boards side by side; what differs is marked."""
    cells = [[_number(x) for x in row] for row in expected]
    others = [
        [_number(y) + ("*" if x != y else "") for x, y in zip(one, two, strict=True)]
        for one, two in zip(expected, found, strict=True)
    ]
    width = max(len(cell) for row in [*cells, *others] for cell in row)
    lines = [f"    {name}, where * marks what differs:"]
    for row, other in zip(cells, others, strict=True):
        left = " ".join(cell.rjust(width) for cell in row)
        lines.append(f"    {left}    |    {' '.join(cell.rjust(width) for cell in other)}")
    return lines


def _state(name: str, observation: Any, action: Any) -> list[str]:
    """A state and an action; small boards as tables."""
    array: Any = np.zeros(0) if isinstance(observation, dict) else np.asarray(observation)
    if array.ndim != 2 or max(array.shape) > LARGEST_BOARD:
        return [f"  {name:2} = {_whole(observation)}, action {_whole(action)}"]
    cells = [[_number(x) for x in row] for row in array]
    width = max(len(cell) for row in cells for cell in row)
    rows = ["    " + " ".join(cell.rjust(width) for cell in row) for row in cells]
    return [f"  {name}, action {_whole(action)}:", *rows]


def _whole(value: Any) -> str:
    """An observation or an action on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_whole(part)}" for key, part in value.items()) + "}"
    array = np.asarray(value)
    if array.ndim == 0:
        return _number(array[()])
    if array.size > 40:
        return f"an array of shape {array.shape}"
    return np.array2string(array, precision=4, suppress_small=True, max_line_width=10_000).replace(
        "\n", ""
    )


def _number(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return f"{value}"
