"""Benchmarks of the running system. Run one with `python -m benchmarks.NAME`; it prints its data and its hardware.

Benchmarks of single checks are in `benchmarks.checks`, fuzzing of media in `benchmarks.fuzzing`.
"""
