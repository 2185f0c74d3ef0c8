"""A trained plain agent made equivariant, and the best version of it found."""

from equirl.agents.transfer.beforehand import look_beforehand, own_seed
from equirl.agents.transfer.transfer import (
    LEARNED,
    PLAIN,
    VERSIONS,
    Stage,
    Transferred,
    choose,
    transfer_agent,
)

__all__ = [
    "LEARNED",
    "PLAIN",
    "VERSIONS",
    "Stage",
    "Transferred",
    "choose",
    "look_beforehand",
    "own_seed",
    "transfer_agent",
]
