"""Agents in files: read without unpickling, restored, exported."""
