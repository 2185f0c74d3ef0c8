"""A report's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from equirl.reporting.aggregates import ALL
from equirl.reporting.analysis import Analysis
from equirl.reporting.contents import parts_of
from equirl.reporting.figures import draw_figures, save_figures
from equirl.reporting.page import as_html, as_markdown
from equirl.runs.run_directory import RunDirectory


def write_report(analysis: Analysis, folder: Path) -> None:
    """Write tables, figures and pages into a new folder, which is there whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    aside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed here
    aside.mkdir(parents=True)
    try:
        _write_tables(analysis, aside)
        figures = draw_figures(analysis)
        save_figures(figures, aside)
        parts = parts_of(analysis, figures)
        RunDirectory(aside).report_text.write_text(as_markdown(parts), encoding="utf-8")
        html = as_html(parts, lambda name: (aside / name).read_text(encoding="utf-8"))
        RunDirectory(aside).report_page.write_text(html, encoding="utf-8")
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_tables(analysis: Analysis, folder: Path) -> None:
    together = {"env": {ALL: "all"}}
    for name, frame in {
        "report": analysis.measures,
        "summary": analysis.summary,
        "curves": analysis.curves,
        "iqm": analysis.aggregates.iqm.replace(together),
        "improvement": analysis.aggregates.improvement.replace(together),
        "profiles": analysis.aggregates.profiles,
    }.items():
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.10g")
