"""What `dask worker … --preload workers.preload` does before a worker takes its first task.

Checks the worker's label, keeps each library to one thread per task (parallelism comes from the graph), lets malloc
keep memory between tasks, loads and warms the models of that label, and shortens the send timer to the scheduler. What
the worker holds is of people and in plain, so it never goes to the disk: `distributed` spills above 60 % of a worker's
memory unless told otherwise, and must be told before the worker has its memory, which is when a preload is imported.

The networks of a GPU worker live where `settings` says. One worker is one process and uses one GPU: with several, start
one worker for each, with its own CUDA_VISIBLE_DEVICES or VERIDASK_DEVICE=cuda:N.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from typing import TYPE_CHECKING

import dask

from models.errors import VeridaskError
from workers.build import METRIC, build
from workers.errors import REFUSAL
from workers.load import BATCHES
from workers.placement import GPU, label_of
from workers.pool import open_pool
from workers.settings import TorchSettings, embedder_settings, torch_settings
from workers.uploads import SEND_INTERVAL, require_tested_build

if TYPE_CHECKING:
    from distributed import Worker

logger = logging.getLogger(__name__)

dask.config.set({"distributed.worker.memory.target": False, "distributed.worker.memory.spill": False})

EMBEDDER = "veridask_embedder"
"""Name of the worker metric that tells which network embeds faces there; empty on a CPU worker. All GPU workers of a
cluster must tell the same: a case whose face and portrait were embedded by different ones ends in an error."""
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


def _told_build(_worker: Worker) -> str:
    return build()


def full_precision() -> None:
    """float32 throughout on a GPU. By default torch rounds the inputs of convolutions there to 10 bits (TF32).

    The thresholds of the checks were fitted on float32; less would have to be measured first.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


async def dask_setup(worker: Worker) -> None:
    """Prepare one worker, or end its process with status 1: it has no label, a setting that it cannot have, weights
    with a wrong digest, or a version of distributed that is not tested.
    """
    try:
        await _prepare(worker)
    except Exception as error:
        # distributed logs what a preload raises and starts the worker all the same; SystemExit gets through.
        logger.critical("%s %s", REFUSAL, error, exc_info=not isinstance(error, VeridaskError))
        raise SystemExit(1) from error


async def _prepare(worker: Worker) -> None:
    require_tested_build()
    label = label_of(worker.state.total_resources)
    worker.batched_stream.interval = SEND_INTERVAL
    worker.metrics[METRIC] = _told_build
    limit_library_threads()
    keep_freed_memory()
    full_precision()
    settings = torch_settings(os.environ) if label == GPU else TorchSettings()
    embedder = embedder_settings(os.environ) if label == GPU else None
    pool = open_pool(settings, embedder)
    await asyncio.to_thread(pool.warm, label, worker.state.nthreads)
    worker.metrics[BATCHES] = lambda _worker: pool.figures()
    told = str(pool.face_embedder.model) if label == GPU else ""
    worker.metrics[EMBEDDER] = lambda _worker: told
    if embedder is not None:
        logger.warning("faces are compared by %s, licence: %s", told, embedder.licence)
    logger.info("worker %s is warm for label %s on %s", worker.name, label, settings.device)
