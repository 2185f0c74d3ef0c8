"""The parts of a report, and how they are written as Markdown and as HTML."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading: of level 1, the page's; 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Bullets:
    """A list of lines; a long one is folded in HTML where it has a title."""

    lines: Sequence[str]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; the first column names the row."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Figures side by side where there is room.

    Args:
        files: name of the SVG file, and what a reader who cannot see it is told.
        caption: under all of them.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""


Part = Text | Heading | Bullets | Table | Pictures

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: #fff; color: #1a1a1a;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p, li, summary { max-width: 46rem; }
ul { padding-left: 1.2rem; }
summary { cursor: pointer; }
code { font-size: .85em; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figcaption { font-size: .875rem; color: #444; max-width: 46rem; }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.pictures img { width: 100%; max-width: 36rem; height: auto; display: block; }
.table { overflow-x: auto; margin-top: .25rem; width: fit-content; max-width: 100%;
  border: 1px solid #ddd; border-radius: 4px; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #eee; }
tr:last-child td, tbody tr:last-child th { border-bottom: 0; }
thead th { background: #f5f5f5; border-bottom: 1px solid #ccc; }
th:first-child { text-align: left; font-weight: 600; background: #fff; position: sticky; left: 0; }
thead th:first-child { background: #f5f5f5; }
@media (max-width: 40rem) { th:first-child { white-space: normal; min-width: 5.5rem;
  max-width: 8rem; } }
td.words { text-align: left; white-space: normal; min-width: 14rem; }
"""


def as_markdown(parts: Sequence[Part]) -> str:
    """GitHub's Markdown, with the figures beside it."""
    return "\n\n".join(_MARKDOWN[type(part)](part) for part in parts) + "\n"


def as_html(parts: Sequence[Part], svg: Callable[[str], str]) -> str:
    """One page that needs nothing else.

    Args:
        parts: the first of them the page's heading.
        svg: the source of a figure, by its file's name.
    """
    title = next(part.text for part in parts if isinstance(part, Heading))
    body = "\n".join(_html_of(part, svg) for part in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _bullets_as_markdown(part: Bullets) -> str:
    lines = "\n".join(f"- {line}" for line in part.lines)
    return f"{part.title}:\n\n{lines}" if part.title else lines


def _table_as_markdown(part: Table) -> str:
    rows = [part.headings, ["---", *["---:"] * (len(part.headings) - 1)], *part.rows]
    lines = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return f"{part.caption}\n\n" + "\n".join(lines)


def _pictures_as_markdown(part: Pictures) -> str:
    shown = "\n".join(f"![{alt}]({name})" for name, alt in part.files.items())
    return f"{shown}\n\n{part.caption}"


_MARKDOWN: dict[type[Part], Callable[..., str]] = {
    Text: lambda part: part.text,
    Heading: lambda part: "#" * part.level + " " + part.text,
    Bullets: _bullets_as_markdown,
    Table: _table_as_markdown,
    Pictures: _pictures_as_markdown,
}


def _html_of(part: Part, svg: Callable[[str], str]) -> str:
    match part:
        case Text():
            return f"<p>{_inline(part.text)}</p>"
        case Heading():
            return f"<h{part.level}>{_inline(part.text)}</h{part.level}>"
        case Bullets():
            items = "".join(f"<li>{_inline(line)}</li>" for line in part.lines)
            if not part.title:
                return f"<ul>{items}</ul>"
            return f"<details><summary>{_inline(part.title)}</summary><ul>{items}</ul></details>"
        case Table():
            return _table_as_html(part)
        case Pictures():
            return _pictures_as_html(part, svg)


def _table_as_html(part: Table) -> str:
    head = "".join(f'<th scope="col">{_inline(h)}</th>' for h in part.headings)
    rows = "".join(
        f'<tr><th scope="row">{_inline(row[0])}</th>{"".join(map(_cell, row[1:]))}</tr>'
        for row in part.rows
    )
    return (
        f"<figure><figcaption>{_inline(part.caption)}</figcaption>\n"
        f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></figure>"
    )


def _cell(text: str) -> str:
    """Long text, such as a version with its processor, may be wrapped; numbers may not."""
    return (
        f'<td class="words">{_inline(text)}</td>' if len(text) > 40 else f"<td>{_inline(text)}</td>"
    )


def _pictures_as_html(part: Pictures, svg: Callable[[str], str]) -> str:
    images = "".join(
        f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,'
        f'{base64.b64encode(svg(name).encode()).decode()}">'
        for name, alt in part.files.items()
    )
    return (
        f'<figure><div class="pictures">{images}</div>'
        f"<figcaption>{_inline(part.caption)}</figcaption></figure>"
    )


def _inline(text: str) -> str:
    """Markdown's code and strong text."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
