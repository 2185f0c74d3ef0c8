"""Fuzzes for longer than the tests do, guided by which lines of equirl an input reaches.

``python tests/fuzz/run.py --inputs 100000`` shares that many inputs out; findings are printed, each
once, and make the exit code 1. Needs ``pip install atheris`` (Linux); without it, or with
``--blind``, Hypothesis draws the inputs alone.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARES = {
    "agents": 0.1,
    "declarations": 0.5,
    "environments": 0.3,
    "spaces": 0.04,
    "observations": 0.01,
    "overrides": 0.05,
}
"""Of the inputs; a declaration takes 5 ms, an agent 20 ms, a command line 50 ms."""

sys.path.insert(0, str(Path(__file__).parent.parent))


class Findings:
    """Counts inputs, and keeps one of each way of failing."""

    def __init__(self, check: Callable[[Any], bool]) -> None:
        self.check = check
        self.inputs = self.worked = 0
        self.found: dict[str, str] = {}
        self.began = time.monotonic()

    def __call__(self, drawn: Any) -> None:
        from fuzz.guarded import Hang

        self.inputs += 1
        if self.inputs % 10_000 == 0:
            print(f"{self.inputs} inputs so far, {len(self.found)} findings", flush=True)
        try:
            self.worked += self.check(drawn)
        except (Exception, Hang) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
            if where not in self.found:
                trace = "".join(traceback.format_exception(error)[-6:])
                self.found[where] = f"{where}\n{drawn!r:.2000}\n{trace}"
                print(self.found[where], flush=True)

    def report(self, name: str) -> int:
        """Print the counts; 1 where something was found, else 0."""
        minutes = (time.monotonic() - self.began) / 60
        print(
            f"{name}: {self.inputs} inputs, {self.worked} worked, the others were refused; "
            f"{len(self.found)} findings; {minutes:.1f} min",
            flush=True,
        )
        return int(bool(self.found))


def _fuzz(name: str, inputs: int, guided: bool, seed: int) -> int:
    """Fuzz one target in this process."""
    atheris: Any = None
    if guided:
        import atheris

        with atheris.instrument_imports(include=["equirl"], enable_loader_override=False):
            for command in ("train", "evaluate", "transfer", "check", "benchmark", "export"):
                importlib.import_module(f"equirl.commands.{command}")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from fuzz import targets

    strategy, check, surroundings = targets.TARGETS[name]
    findings = Findings(check)
    quiet = settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    fuzzed = seeded(seed)(quiet(given(strategy)(lambda drawn: findings(drawn))))
    with tempfile.TemporaryDirectory() as folder, surroundings(Path(folder)):
        if atheris is None:
            fuzzed()
            return findings.report(name)

        def one(content: bytes) -> None:
            fuzzed.hypothesis.fuzz_one_input(content)
            if findings.inputs >= inputs:
                os._exit(findings.report(name))

        options = [
            "-runs=-1",
            f"-seed={seed}",
            "-timeout=999999",
            "-rss_limit_mb=0",
            "-max_len=2048",
        ]
        options += [
            "-verbosity=0",
            "-len_control=0",
            "-report_slow_units=1000000",
            f"-artifact_prefix={folder}/",
        ]
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()
    return 0


def main() -> int:
    """Fuzz every target, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--only", choices=SHARES, help="one target, with all the inputs")
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        warnings.simplefilter("ignore")
        return _fuzz(given.only, given.inputs, not given.blind, given.seed)
    code = 0
    for name, share in {given.only: 1.0}.items() if given.only else SHARES.items():
        inputs = str(round(share * given.inputs))
        own = [sys.argv[0], "--here", "--only", name, "--inputs", inputs, "--seed", str(given.seed)]
        blind = ["--blind"] if given.blind else []
        # libFuzzer has a page to say on stderr, and ends with a code of its own.
        with subprocess.Popen(
            [sys.executable, *own, *blind],
            stdout=subprocess.PIPE,
            stderr=None if given.blind else subprocess.DEVNULL,
            text=True,
        ) as fuzzing:
            last = ""
            for last in fuzzing.stdout or ():
                print(last, end="", flush=True)
        if "; 0 findings;" not in last:
            code = 1
            print(f"{name}: {'see above' if 'findings;' in last else 'ended early'}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
