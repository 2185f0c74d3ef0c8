"""Quantile-regression DQN; needs sb3-contrib."""
