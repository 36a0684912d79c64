"""Schedulers without workers, as real processes, for tests in which a scheduler goes away."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client


@contextmanager
def scheduler(port: int) -> Iterator[None]:
    """A scheduler without workers."""
    address = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", *address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def until_it_listens(port: int, timeout_s: float = 60) -> None:
    """Wait until a process accepts connections on this port of loopback."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


async def until(holds: Any, timeout_s: float = 30) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.05)


async def states(address: str) -> dict[str, str]:
    """The state of every task on the scheduler, by key."""

    def tasks(dask_scheduler: Any) -> dict[str, str]:
        return {str(key): task.state for key, task in dask_scheduler.tasks.items()}

    async with Client(address, asynchronous=True, set_as_default=False) as looking:
        found: dict[str, str] = await looking.run_on_scheduler(tasks)
        return found
