"""Where and how tasks run: placement, model pool, upload events. Does not import `graphs` or `service`."""
