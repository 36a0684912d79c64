"""Measurements. Each module runs by `python -m benchmarks.NAME` and says on what data and hardware it ran."""
