"""The search for symmetries in random play."""

from equirl.verification.discovery.discover import Discovery, discover_symmetries

__all__ = ["Discovery", "discover_symmetries"]
