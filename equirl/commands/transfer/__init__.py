"""``equirl transfer``: a trained plain agent made equivariant, and what came of it."""

from equirl.commands.transfer.command import transfer

__all__ = ["transfer"]
