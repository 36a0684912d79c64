"""Networks and vision: arrays in, frozen dataclasses out. Knows nothing of dask, the web, or the environment."""
