"""What `dask worker … --preload workers.preload` does before a worker takes its first task.

It checks the worker's label, limits each library to one thread per task (parallelism comes from the graph), lets malloc
keep memory between tasks, loads and warms the models of the label, and shortens the send timer to the scheduler.

It also turns off spilling to disk, because the worker's data is unencrypted personal data. By default `distributed`
spills above 60 % of a worker's memory. The setting must be made before the worker allocates its memory, that is, when
this module is imported.

`settings` says which device a GPU worker uses. One worker is one process and uses one GPU. For several GPUs start one
worker each, with its own CUDA_VISIBLE_DEVICES or VERIDASK_DEVICE=cuda:N.
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
"""Name of the worker metric with the network that embeds faces; empty on a CPU worker. It must be the same on all GPU
workers of a cluster: a case whose face and portrait were embedded by different networks ends in an error.
"""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc


def limit_library_threads() -> None:
    """Limit OpenCV and torch to one thread per task. OpenMP is limited by OMP_NUM_THREADS, read before Python runs."""
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def keep_freed_memory() -> None:
    """Let malloc keep up to 128 MiB of freed memory, and use it for blocks of up to 32 MiB.

    A nanny starts workers with MALLOC_TRIM_THRESHOLD_=65536, which also turns off malloc's own adaptation. Each tensor
    of a forward pass is then allocated from the system and returned to it, which made face detection 1.5 times slower.
    Does nothing if the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)  # each thread would keep an arena of its own
        mallopt(_M_TRIM_THRESHOLD, 128 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)


def _build_metric(_worker: Worker) -> str:
    return build()


def full_precision() -> None:
    """Use full float32 on a GPU. By default torch rounds the inputs of convolutions to 10 bits (TF32).

    The thresholds of the checks were fitted on float32; measure before using less precision.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


async def dask_setup(worker: Worker) -> None:
    """Prepare one worker, or end its process with status 1.

    It ends without exactly one label, with an invalid setting, with weights of a wrong digest, or with an untested
    version of `distributed`.
    """
    try:
        await _prepare(worker)
    except Exception as error:
        # distributed only logs what a preload raises and starts the worker anyway; SystemExit ends it.
        logger.critical("%s %s", REFUSAL, error, exc_info=not isinstance(error, VeridaskError))
        raise SystemExit(1) from error


async def _prepare(worker: Worker) -> None:
    require_tested_build()
    label = label_of(worker.state.total_resources)
    worker.batched_stream.interval = SEND_INTERVAL
    worker.metrics[METRIC] = _build_metric
    limit_library_threads()
    keep_freed_memory()
    full_precision()
    settings = torch_settings(os.environ) if label == GPU else TorchSettings()
    embedder = embedder_settings(os.environ) if label == GPU else None
    pool = open_pool(settings, embedder)
    await asyncio.to_thread(pool.warm, label, worker.state.nthreads)
    worker.metrics[BATCHES] = lambda _worker: pool.figures()
    embedder_name = str(pool.face_embedder.model) if label == GPU else ""
    worker.metrics[EMBEDDER] = lambda _worker: embedder_name
    if embedder is not None:
        logger.warning("faces are compared by %s, licence: %s", embedder_name, embedder.licence)
    logger.info("worker %s is warm for label %s on %s", worker.name, label, settings.device)
