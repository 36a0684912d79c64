"""Processes end when the one that started them is gone, even by SIGKILL.

A preload of the embedded cluster's: of the scheduler, the nannies (`--preload-nanny`) and the workers, because a worker
that is just starting outlives its nanny. `service.server.serve` watches in the same way for whoever started it as a
child.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import psutil

logger = logging.getLogger(__name__)

PARENT = "VERIDASK_PARENT_PID"
"""Environment variable with the process id of the one that starts them; without it nothing is watched."""
LOOK_S = 0.5
GRACE_S = 5.0

_watching: set[asyncio.Task[None]] = set()


async def dask_setup(_server: object) -> None:
    """Begin to watch."""
    watch(GRACE_S)


def watch(grace_s: float) -> None:
    """Begin to watch, in the running event loop. grace_s: from the request to end in order to the end."""
    if parent := os.environ.get(PARENT):
        task = asyncio.create_task(_end_with(int(parent), grace_s), name="orphan")
        _watching.add(task)  # the event loop holds tasks weakly


async def _end_with(parent: int, grace_s: float) -> None:
    try:
        starter = psutil.Process(parent)
        while starter.is_running():  # compares start times too: the id may be another process's by now
            await asyncio.sleep(LOOK_S)
    except psutil.NoSuchProcess:
        pass
    logger.warning("the process that started this one is gone: ending")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(grace_s)
    os._exit(1)
