"""What stands around an environment while it is played."""
