"""What the comparisons of this folder share: where a run is played, watched and written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from learners import vary


def main(kind: str, run: Callable[[str, str, int, int], dict[str, Any]], steps: int) -> None:
    """Train as the command line says: TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]].

    Args:
        kind: of the comparison, with which the names of its files begin.
        run: from a task, a method, a seed and environment steps to what was found.
        steps: unless the command line says another number.
    """
    torch.set_num_threads(1)
    task, method, seeds, folder, *options = sys.argv[1:]
    way = options[0] if options else "-"
    if way != "-":
        vary(way)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for seed in map(int, seeds.split(",")):
        found = run(task, method, seed, int(options[1]) if len(options) > 1 else steps)
        found |= {"task": task, "method": method, "seed": seed, "way": way}
        name = f"{kind}-{task}-{method}-{way}-{seed}.json"
        (Path(folder) / name).write_text(json.dumps(found))
        final = found.get("final", found["returns"][-1])
        print(name, round(final, 3), round(found["seconds"]), flush=True)
