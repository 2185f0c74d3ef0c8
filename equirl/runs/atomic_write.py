"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, beside ``path``, which takes its place once it is safely on disk.

    Args:
        path: what is to be written; folders above it are made.

    Raises:
        OSError: it cannot be written; ``path`` is then as it was.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "result.txt"
        >>> with written_whole(path) as aside:
        ...     _ = aside.write_text("done")
        >>> path.read_text()
        'done'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.writing{path.suffix}")
    try:
        yield aside
        _flush(aside)
        aside.replace(path)
        _flush(path.parent)  # the new name, too, outlasts a power cut
    finally:
        aside.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed while writing left below ``folder``."""
    for aside in folder.rglob(".*.writing*"):
        aside.unlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
