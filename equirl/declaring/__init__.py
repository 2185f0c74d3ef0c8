"""From what a user declares (functions, arrays, names) to a `GroupAction`."""
