"""Networks and vision: arrays in, frozen dataclasses out.

Each folder is a room with one job. Nothing here knows dask, the web or environment variables, and nothing sets
thresholds: `workers` loads the models, `graphs` runs the checks and applies the policy.
"""
