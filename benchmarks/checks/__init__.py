"""Cost and accuracy of single checks and networks, measured in one process: `python -m benchmarks.checks.NAME`.

Does not start a service or a cluster: load, latency, faults and scaling are in `benchmarks` itself.
"""
