"""The search for symmetries in random play."""

from equirl.verification.discovery.discover import discover_symmetries
from equirl.verification.discovery.findings import Discovery, Unconfirmed

__all__ = ["Discovery", "Unconfirmed", "discover_symmetries"]
