"""Paths of the checkout and of the data beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that holds pyproject.toml."""
SHARED_DATA = ROOT.parent / "shared" / "data"
"""The evaluation data. Tests that need it skip if it is missing."""
