"""What equivariant agents are compared with."""
