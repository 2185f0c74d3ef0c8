"""What `equirl report` is made of: runs in, statistics, figures and pages out.

Needs ``pip install "equirl[report]"``.

    from equirl.reporting import analyse, load_runs, write_report

    analysis = analyse(load_runs(["runs"]), threshold={"cartpole": 475})
    analysis.summary                     # a pandas frame
    write_report(analysis, Path("report"))
"""

from equirl.reporting.analysis import Analysis, analyse
from equirl.reporting.runs import LoadedRuns, Run, load_runs
from equirl.reporting.write import write_report

__all__ = ["Analysis", "LoadedRuns", "Run", "analyse", "load_runs", "write_report"]
