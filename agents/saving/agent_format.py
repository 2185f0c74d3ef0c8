"""What every agent of ours says about itself in the JSON of its zip, and which versions we read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from equirl import __version__
from equirl.errors import AgentError
from equirl.saved_symmetry import to_json
from equirl.shown import shortened, shown
from equirl.symmetry import Symmetry

FORMAT = 1
"""Of saved agents. Raise it when an older equirl would misunderstand what is saved from now on;
every older format goes on being read (`tests/data/agents/`)."""


def description(symmetry: Symmetry) -> dict[str, Any]:
    """Attributes of a model that SB3's ``save`` writes into ``data`` as they are, unpickled."""
    return {
        "equirl_format": FORMAT,
        "equirl_version": __version__,
        "equirl_symmetry": to_json(symmetry),
    }


def check_format(path: object, data: dict[str, Any]) -> None:
    """Refuse an agent that a later equirl saved.

    Args:
        path: where it was read from, for the message.
        data: the JSON description in the zip.

    Raises:
        AgentError: its format is later than `FORMAT`, or no number.
    """
    found = data.get("equirl_format", 0)
    if not isinstance(found, int):
        raise AgentError(f"{path} is damaged: its equirl_format is {shown(found)}, no whole number")
    if found > FORMAT:
        by = shortened(str(data.get("equirl_version", "a later version")))
        raise AgentError(
            f"{path} was saved by equirl {by} in format {shown(found)}, this is equirl "
            f"{__version__}, which reads up to {FORMAT}: pip install --upgrade equirl"
        )


def check_saved_format(path: Any) -> None:
    """`check_format` of what `DQN.load` takes, before anything in it is unpickled.

    SB3 refuses what is not a readable zip.
    """
    file = path if hasattr(path, "read") else Path(path)
    if isinstance(file, Path) and not file.is_file():
        file = Path(f"{path}.zip")
    try:
        with zipfile.ZipFile(file) as archive:
            data = json.loads(archive.read("data"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return
    finally:
        if not isinstance(file, Path):
            file.seek(0)
    if isinstance(data, dict):
        check_format(path, data)
