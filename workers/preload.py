"""What `dask worker … --preload workers.preload` does before a worker takes its first task.

Checks the worker's label, keeps each library to one thread per task (parallelism comes from the graph), lets malloc
keep memory between tasks, loads and warms the models of that label, and shortens the send timer to the scheduler.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
from typing import TYPE_CHECKING

from workers.placement import label_of
from workers.pool import models
from workers.uploads import SEND_INTERVAL, require_tested_build

if TYPE_CHECKING:
    from distributed import Worker

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc


def limit_library_threads() -> None:
    """One thread per task inside OpenCV and torch; OpenMP reads OMP_NUM_THREADS before Python runs."""
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def keep_freed_memory() -> None:
    """Let malloc keep up to 128 MiB that was freed, and serve blocks of up to 32 MiB from it.

    A nanny starts workers with MALLOC_TRIM_THRESHOLD_=65536, which also turns off malloc's own adaptation: each tensor
    of a forward pass is then fetched from the system and given back, which made the search for faces 1.5 times slower.
    Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)  # each thread would keep an arena of its own
        mallopt(_M_TRIM_THRESHOLD, 128 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)


async def dask_setup(worker: Worker) -> None:
    """Prepare one worker. Raises LabelError, UntestedBuildError or WeightsError: the worker then does not start."""
    require_tested_build()
    label = label_of(worker.state.total_resources)
    worker.batched_stream.interval = SEND_INTERVAL
    limit_library_threads()
    keep_freed_memory()
    await asyncio.to_thread(models().warm, label)
    logger.info("worker %s is warm for label %s", worker.name, label)
