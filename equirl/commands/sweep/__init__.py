"""What ``equirl train -m`` does: many runs, each in a process of its own."""
