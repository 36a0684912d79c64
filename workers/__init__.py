"""Where and how tasks run: placement, model pool, upload events. Knows nothing of `graphs` and `service`."""
