"""Deep Q-learning with an equivariant Q-function."""
