"""Environments of our own, played on square boards."""
