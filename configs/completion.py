"""Types for what no schema of Hydra's can check: the keys that depend on a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equirl.configs.algorithms import ALGORITHMS, GSDE
from equirl.configs.methods import METHODS
from equirl.configs.old_keys import is_old, modernised
from equirl.configs.schema import TrainConfig, known_keys
from equirl.errors import ConfigError
from equirl.shown import nearest

GROUPS: dict[str, Mapping[str, type[Any]]] = {"algorithm": ALGORITHMS, "method": METHODS}
"""Parts of a configuration whose keys are those of the schema that their ``name`` names."""


def typed(config: DictConfig, groups: Iterable[str] = tuple(GROUPS)) -> DictConfig:
    """The configuration, with these of its `GROUPS` completed and checked.

    Raises:
        ConfigError: an unknown name, or a key that is not among those of its schema.
        OmegaConfBaseException: a value of the wrong type.
    """
    if config.get("check") == "False":  # how YAML reads check: off
        config.check = "off"
    for group in groups:
        if group in config:
            config[group] = _typed(group, OmegaConf.to_container(config[group], resolve=False))
    return config


def _typed(group: str, given: Any) -> DictConfig:
    schemas, name = GROUPS[group], given.get("name")
    if name not in schemas:
        raise ConfigError(
            f"{group}.name must be one of {', '.join(schemas)}, got {name!r}"
            f"{nearest(str(name), schemas)}"
        )
    own = {field.name for field in fields(schemas[name])}
    for key in given:
        if key not in own:
            raise ConfigError(_misplaced(group, name, key))
    # Merged at the root, so that an error names the whole key.
    merged: Any = OmegaConf.merge({group: OmegaConf.structured(schemas[name])}, {group: given})
    node: DictConfig = merged[group]
    return node


def _misplaced(group: str, name: str, key: str) -> str:
    whole = f"{group}.{key}"
    if group == "algorithm" and key in GSDE:
        return (
            f"{whole}: gSDE exploration (arXiv 2005.05719) is refused for training, its noise is a "
            "function of features that no symmetry is known of; leave the key out"
        )
    others = [
        other
        for other, schema in GROUPS[group].items()
        if key in {field.name for field in fields(schema)}
    ]
    if others:
        return f"{whole} is for {group}={', '.join(others)}, got {group}={name}"
    return f"no such key {whole!r}{nearest(whole, known_keys())}; see --help for the keys"


def from_saved(saved: Any) -> DictConfig:
    """The configuration of a run from its ``config.yaml``, of this version or an older one.

    Args:
        saved: what the file holds, as plain data.

    Raises:
        ConfigError, OmegaConfBaseException: it is not the configuration of a run.
    """
    if is_old(saved):
        saved = modernised(saved)
    config = OmegaConf.merge(OmegaConf.structured(TrainConfig), saved)
    assert isinstance(config, DictConfig)
    return config
