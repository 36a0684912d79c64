"""Scripts that made the weights of `models/weights`: seeded, drawing their own data, not needed at run time."""
