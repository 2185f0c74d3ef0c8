"""``equirl benchmark``: what symmetry costs, beside stock Stable-Baselines3."""

from equirl.commands.benchmark.command import benchmark

__all__ = ["benchmark"]
