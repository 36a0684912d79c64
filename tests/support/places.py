"""Where the checkout is, and what lies beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that holds pyproject.toml."""
SHARED_DATA = ROOT.parent / "shared" / "data"
"""The evaluation data; tests that need it skip where it is absent."""
