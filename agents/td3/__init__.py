"""Twin delayed deep deterministic policy gradients, and DDPG."""
