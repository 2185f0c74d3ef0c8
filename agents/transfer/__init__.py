"""A trained plain agent made equivariant, and the best version of it found."""

from equirl.agents.transfer.transfer import Transferred, transfer_agent

__all__ = ["Transferred", "transfer_agent"]
