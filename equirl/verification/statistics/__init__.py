"""What the statistical check is made of: evidence from transitions, and what chance explains."""
