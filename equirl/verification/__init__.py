"""Is a declared symmetry real? Exact and statistical checks, and the search for symmetries."""
