"""Environments whose symmetry fails in a part of the states, which a parameter makes larger."""
