"""Ends a process when its parent is gone, even if the parent was killed by SIGKILL.

The embedded cluster preloads it in the scheduler, in nannies (`--preload-nanny`) and in workers, because a worker that
is just starting outlives its nanny. `service.server.serve` uses it in the same way when started as a child process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import psutil

logger = logging.getLogger(__name__)

PARENT = "VERIDASK_PARENT_PID"
"""Environment variable with the process id of the parent. Without it nothing is watched."""
LOOK_S = 0.5
GRACE_S = 5.0

_watching: set[asyncio.Task[None]] = set()


async def dask_setup(_server: object) -> None:
    """Start watching; Dask calls this when it loads the preload."""
    watch(GRACE_S)


def watch(grace_s: float) -> None:
    """Start watching, in the running event loop. grace_s: seconds between SIGTERM and a forced exit."""
    if parent := os.environ.get(PARENT):
        task = asyncio.create_task(_end_with(int(parent), grace_s), name="orphan")
        _watching.add(task)  # the event loop keeps only weak references to tasks


async def _end_with(parent: int, grace_s: float) -> None:
    try:
        starter = psutil.Process(parent)
        while starter.is_running():  # also compares start times, as the id may have been reused
            await asyncio.sleep(LOOK_S)
    except psutil.NoSuchProcess:
        pass
    logger.warning("the parent process is gone: shutting down")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(grace_s)
    os._exit(1)
