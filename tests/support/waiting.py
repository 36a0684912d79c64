"""Waits for a condition that another process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object], timeout_s: float = 30, pause_s: float = 0.05) -> None:
    """Wait until a condition holds. Fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(pause_s)
