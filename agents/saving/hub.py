"""Agents from the Hugging Face Hub: ``hub:user/repo`` in place of a path."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from equirl.errors import AgentError
from equirl.shown import reason

PREFIX = "hub:"


def local_agent(reference: str) -> Path:
    """The path of an agent, downloaded first where ``hub:user/repo`` says so.

    The file is ``repo.zip``, as SB3 names it when it pushes to the Hub; ``hub:user/repo/FILE``
    names another. Needs the extra ``hub``.

    Raises:
        AgentError: no such repository or file, no network, or the extra is not installed.
    """
    if not reference.startswith(PREFIX):
        return Path(reference)
    user, _, rest = reference.removeprefix(PREFIX).partition("/")
    repository, _, file = rest.partition("/")
    if not user or not repository:
        raise AgentError(f"expected hub:user/repo or hub:user/repo/FILE.zip, got {reference}")
    try:
        from huggingface_sb3 import load_from_hub
    except ImportError as error:
        raise AgentError(f'{reference} needs pip install "equirl[hub]"') from error
    # Without a network each of its attempts would print a page.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return Path(load_from_hub(f"{user}/{repository}", file or f"{repository}.zip"))
    except Exception as error:  # no network and no such file are errors of many classes there
        raise AgentError(f"{reference} cannot be fetched: {reason(error)}") from error


def push_agent(path: Path, reference: str) -> str:
    """Upload an agent to ``hub:user/repo``, which is made where it is not there; gives its address.

    The file is called ``repo.zip`` there, under which name `local_agent` looks for it. Needs the
    extra ``hub``, and a log-in (``huggingface-cli login``, or ``HF_TOKEN``).

    Raises:
        AgentError: no log-in, no network, or the extra is not installed.
    """
    user, _, repository = reference.removeprefix(PREFIX).partition("/")
    if not user or not repository or "/" in repository:
        raise AgentError(f"expected hub:user/repo, got {reference}")
    try:
        from huggingface_sb3 import push_to_hub
    except ImportError as error:
        raise AgentError(f'{reference} needs pip install "equirl[hub]"') from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        named = shutil.copy(path, Path(folder) / f"{repository}.zip")
        try:
            push_to_hub(f"{user}/{repository}", str(named), "An agent trained with equirl")
        except Exception as error:  # as above
            raise AgentError(f"{reference} cannot be pushed: {reason(error)}") from error
    return f"https://huggingface.co/{user}/{repository}"
