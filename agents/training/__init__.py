"""Callbacks, evaluation and checkpoints: what happens around a training."""
