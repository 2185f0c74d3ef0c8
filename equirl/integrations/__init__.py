"""A `Symmetry` in the terms of other packages; none of them is imported before it is asked for."""
