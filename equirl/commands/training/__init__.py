"""What ``equirl train`` does, step by step."""
