"""A trained plain agent made equivariant, and the best version of it found."""

from equirl.agents.transfer.beforehand import OWN_STEPS, look_beforehand
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
    "OWN_STEPS",
    "PLAIN",
    "VERSIONS",
    "Stage",
    "Transferred",
    "choose",
    "look_beforehand",
    "transfer_agent",
]
