"""Random inputs of every kind, and what must hold for all of them."""
