"""Actor-critic algorithms on-policy: PPO, A2C, and policies for TRPO and MaskablePPO."""
