"""Preload of the embedded cluster's processes: they end when the process that started them is gone, even by SIGKILL.

For the scheduler, the nannies (`--preload-nanny`) and the workers: a worker that is just starting outlives its nanny.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import psutil

logger = logging.getLogger(__name__)

PARENT = "VERIDASK_PARENT_PID"
"""Environment variable with the process id of the one that starts the cluster; without it nothing is watched."""
LOOK_S = 0.5
GRACE_S = 5.0
"""From the request to end in order to the end."""

_watching: set[asyncio.Task[None]] = set()


async def dask_setup(_server: object) -> None:
    """Begin to watch."""
    if parent := os.environ.get(PARENT):
        task = asyncio.create_task(_end_with(int(parent)), name="orphan")
        _watching.add(task)  # the event loop holds tasks weakly


async def _end_with(parent: int) -> None:
    try:
        starter = psutil.Process(parent)
        while starter.is_running():  # compares start times too: the id may be another process's by now
            await asyncio.sleep(LOOK_S)
    except psutil.NoSuchProcess:
        pass
    logger.warning("the process that started this one is gone: ending")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(GRACE_S)
    os._exit(1)
