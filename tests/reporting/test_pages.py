"""Markdown, HTML and figures."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from equirl.reporting import Analysis, analyse, load_runs, write_report
from equirl.reporting.contents import parts_of
from equirl.reporting.figures import COLOURS, draw_figures, file_names, styles_of
from equirl.reporting.labels import USUAL
from equirl.reporting.page import Bullets, Heading, Table, Text, as_html, as_markdown
from shared.written_runs import write_evaluations, write_run

METHODS = ("plain", "equitune", "lambda")
STEPS = np.arange(1, 11) * 1000


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Three methods on two environments, and one zero-shot."""
    runs = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for env in ("cartpole", "acrobot"):
        for i, method in enumerate(METHODS):
            for seed in range(3):
                returns = 100 * np.tanh(STEPS * (i + 1) / 8000) + rng.normal(0, 5, len(STEPS))
                folder = write_run(
                    runs / f"{env}-{method}-{seed}",
                    STEPS,
                    returns,
                    method=method,
                    env=env,
                    seed=seed,
                    seconds=STEPS / 1000,
                    changed={"env.threshold_return": 80},
                )
                if method == "plain":
                    name = "evaluations_zero_shot_equizero.npz"
                    write_evaluations(folder / name, STEPS, returns + 5)
    return analyse(load_runs([runs]), reps=100)


@pytest.fixture(scope="module")
def folder(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    path = tmp_path_factory.mktemp("out") / "deep" / "report"
    write_report(analysis, path)
    return path


class Page(HTMLParser):
    """What a page refers to, and whether every element is closed."""

    VOID = ("meta", "img", "br", "!doctype")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.alternatives: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        known = dict(attrs)
        self.references += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag == "img":
            self.alternatives.append(known.get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.long
def test_the_page_needs_nothing_else(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.references
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in page.references)
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    for reference in page.references:
        svg = base64.b64decode(reference.partition(",")[2]).decode()
        assert svg.rstrip().endswith("</svg>")
        # Namespaces and the drawing program's name, none of which is fetched.
        assert not re.search(r'(href|src)="http', svg)
    assert all(page.alternatives)


def test_every_figure_is_there_as_svg_and_png_and_in_both_pages(folder: Path) -> None:
    stems = {file.stem for file in folder.glob("*.svg")}
    assert stems == {file.stem for file in folder.glob("*.png")}
    expected = {f"curves-{e}-{c}" for e in ("cartpole", "acrobot") for c in ("steps", "seconds")}
    expected |= {"profiles", "iqm-final", "improvement-area", "ratio-steps-acrobot"}
    assert stems >= expected
    shown = set(re.findall(r"\]\(([^)]+)\.svg\)", (folder / "report.md").read_text()))
    assert shown == {stem for stem in stems if "cpu" not in stem}
    html = (folder / "report.html").read_text()
    assert len(Page(html).references) == len(shown)


def test_tables_name_every_method_and_their_rows_are_whole(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    assert len(tables) > 6
    for table in tables:
        assert len({row.count("|") for row in table}) == 1
    of_times = next(table for table in tables if "steps" in table[0])
    methods = {row.split("|")[1].strip() for row in of_times[2:]}
    assert methods == {*METHODS, "plain → equizero, zero-shot"}


def test_where_the_runs_come_from_is_said(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert "| torch | 2.13.0 |" in text
    assert "| commit | 0123456789ab |" in text
    assert "- `equirl train env=task method=plain seed=0`" in text


def edge_is_white(file: Path) -> bool:
    pixels = np.asarray(Image.open(file).convert("RGB"))
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return all((edge == 255).all() for edge in edges)


def test_nothing_is_cut_off_at_the_edge_of_a_figure(folder: Path) -> None:
    for file in folder.glob("*.png"):
        assert edge_is_white(file), file.name


@pytest.mark.long
def test_legends_name_the_methods_and_lines_keep_clear_of_them(analysis: Analysis) -> None:
    figures = draw_figures(analysis)
    for name, figure in figures.items():
        figure.draw_without_rendering()
        (axes,) = figure.axes
        if name.startswith("curves"):
            (legend,) = figure.legends
            said = {text.get_text() for text in legend.get_texts()}
            assert said == {*analysis.methods, "threshold 80"}
            assert legend.get_window_extent().y1 <= axes.get_window_extent().y0
        elif name != "profiles":
            said = {label.get_text().split("\n")[0] for label in axes.get_yticklabels()}
            assert said <= set(analysis.methods)
            assert said


def test_every_method_is_told_by_colour_line_and_marker() -> None:
    methods = [*USUAL, *(f"other{i}" for i in range(20))]
    styles = styles_of(methods)
    assert len({(s.colour, str(s.line), s.marker) for s in styles.values()}) == len(methods)
    for part in ("colour", "line", "marker"):
        first = [str(getattr(styles[m], part)) for m in [*USUAL, "other0"]]
        assert len(set(first)) == len(COLOURS)
    assert styles_of(["lambda"])["lambda"] == styles["lambda"]


@given(st.lists(st.text("aA(-= 1", min_size=1), unique=True, max_size=8))
def test_no_two_environments_share_a_file_name_even_where_case_does_not_count(
    envs: list[str],
) -> None:
    names = file_names(envs)
    assert list(names) == envs
    assert len({name.casefold() for name in names.values()}) == len(envs)
    assert all(re.fullmatch(r"[\w.-]*", name) for name in names.values())


@pytest.mark.long
def test_environments_whose_labels_differ_in_signs_alone_have_figures_of_their_own(
    tmp_path: Path,
) -> None:
    for delta in (-1, 1):
        for method, offset in (("plain", 0), ("lambda", 100)):
            write_run(
                tmp_path / f"{method}{delta}",
                STEPS,
                STEPS / 100 + offset,
                method=method,
                env="maze",
                changed={"env.kwargs": {"delta": delta}, "env.threshold_return": 20},
            )
    analysis = analyse(load_runs([tmp_path]), reps=100)
    figures = draw_figures(analysis)
    page = as_markdown(parts_of(analysis, figures))
    sections = dict(zip(analysis.envs, re.split(r"^## maze", page, flags=re.M)[1:], strict=True))
    for env, section in sections.items():
        shown = re.findall(r"\]\(((?:curves|ratio)[^)]+)\.svg\)", section)
        assert [figures[name].axes[0].get_title() for name in shown] == [env] * len(shown)
        assert {name.partition("-")[0] for name in shown} == {"curves", "ratio"}


@pytest.mark.slow
def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "run", STEPS, STEPS / 100)
    one, other = (tmp_path / name for name in ("one", "other"))
    for folder in (one, other):
        write_report(analyse(load_runs([tmp_path / "runs"]), reps=100), folder)
    assert {file.suffix for file in one.iterdir()} == {".csv", ".html", ".md", ".png", ".svg"}
    for file in one.iterdir():
        assert (other / file.name).read_bytes() == file.read_bytes(), file.name


def test_what_could_be_markup_is_text() -> None:
    parts = [
        Heading("<b>", 1),
        Text("a < b & **strong** `x<y`"),
        Bullets(["<script>"], "1 < 2"),
        Table(["", "a|b"], [["<i>", "1"]], "<u>"),
    ]
    html = as_html(parts, lambda name: "")
    Page(html)
    assert not re.search("<(b|i|u|script)>", html)
    assert "a &lt; b &amp; <strong>strong</strong> <code>x&lt;y</code>" in html
    assert "a\\|b" in as_markdown(parts)


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    return str(found)


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    reason="needs Chromium",
)
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_its_window(folder: Path, tmp_path: Path, width: int) -> None:
    # In a frame, since Chromium's window is never narrower than 500.
    measure = (
        "<script>addEventListener('load', () => parent.postMessage("
        "[innerWidth, document.documentElement.scrollWidth,"
        "Math.min(...[...document.images].map(i => i.naturalWidth && i.clientWidth))]"
        ".join(' '), '*'))</script></body>"
    )
    inner_page, page = tmp_path / "inner.html", tmp_path / "page.html"
    inner_page.write_text((folder / "report.html").read_text().replace("</body>", measure))
    page.write_text(
        "<title></title><script>addEventListener('message', e => document.title = e.data)</script>"
        f'<iframe src="inner.html" style="border: 0; width: {width}px; height: 800px"></iframe>'
    )
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/user")
    done: Any = subprocess.run(
        [chromium(), *options, "--window-size=1400,900", "--dump-dom", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    inner, scrolled, narrowest = map(int, title[1].split())
    assert inner == width
    assert scrolled <= width
    assert narrowest >= min(300, width - 60)
