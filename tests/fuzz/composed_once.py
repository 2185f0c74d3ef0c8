"""Hydra composes the same files for every input; composing them once makes it several times faster.

Only what the choice of the package's files decides is kept. All overrides are parsed and applied by
Hydra itself, and a folder of one's own is read anew each time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore

from equirl.configs import schema

_LISTS: dict[str, Any] = {}
_CONFIGS: dict[str, Any] = {}


@contextmanager
def files_composed_once() -> Iterator[None]:
    """Within the body, Hydra composes each choice of files once."""
    create = defaults_list.create_defaults_list
    compose = config_loader_impl.ConfigLoaderImpl._compose_config_from_defaults_list
    get_mode = Hydra.get_mode

    def created(**arguments: Any) -> Any:
        given, sources = arguments["overrides_list"], _sources(arguments["repo"])
        if sources is None:
            return create(**arguments)
        own = defaults_list.Overrides(repo=arguments["repo"], overrides_list=given)
        files = (own.override_choices, own.append_group_defaults, own.deletions)
        key = f"{arguments['config_name']} {arguments['skip_missing']} {files} {sources}"
        if key not in _LISTS:
            _LISTS[key] = create(**arguments)
        known = copy.copy(_LISTS[key])
        known.config_overrides = own.config_overrides
        return known

    def composed(self: Any, defaults: Any, repo: Any) -> Any:
        sources = _sources(repo)
        if sources is None:
            return compose(self, defaults, repo)
        key = f"{defaults} {sources}"
        if key not in _CONFIGS:
            _CONFIGS[key] = compose(self, defaults, repo)
        return copy.deepcopy(_CONFIGS[key])

    def mode(self: Any, config_name: Any, overrides: list[str]) -> Any:
        says = any("hydra.mode" in override for override in overrides)
        return get_mode(self, config_name, overrides) if says else None

    with pytest.MonkeyPatch.context() as patch:
        loader = config_loader_impl.ConfigLoaderImpl
        patch.setattr(config_loader_impl, "create_defaults_list", created)
        patch.setattr(loader, "_compose_config_from_defaults_list", composed)
        patch.setattr(Hydra, "get_mode", mode)
        # Every composition copies the repository, but not to change what is stored.
        patch.setattr(ConfigStore, "__deepcopy__", lambda store, _: store, raising=False)
        patch.setattr(schema, "register_schemas", cache(schema.register_schemas))
        yield


def _sources(repo: Any) -> list[str] | None:
    """Where the files are looked for; None if some of them may change."""
    sources = repo.get_sources()
    if any(source.scheme() == "file" for source in sources):
        return None
    return [source.path for source in sources]
