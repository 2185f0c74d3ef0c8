"""Run directories: what they hold, how files in them are written, what a run was made with."""
