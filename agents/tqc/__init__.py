"""Truncated quantile critics; needs sb3-contrib."""
