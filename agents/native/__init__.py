"""Q-networks that are equivariant layer by layer."""
