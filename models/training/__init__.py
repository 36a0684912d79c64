"""Scripts that trained the weights in `models/weights`: seeded, and drawing their own training data.

Not needed at run time: the networks live in `models.page`, verified loading is `models.networks.weights`.
"""
