"""Lists the GPUs, loads every model as a worker would, and times runs of each: `python -m workers.selfcheck`.

Prints one JSON line for the GPUs and one for each model. It is a separate process because `veridask doctor`, which
calls it, never loads torch or cv2.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from models.errors import VeridaskError
from workers.pool import ModelPool
from workers.preload import full_precision, limit_library_threads
from workers.settings import embedder_settings, torch_settings

RUNS = 3


def trials(pool: ModelPool) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """For each model, two functions: one loads it, one runs it on an input of the size that it gets in a case."""
    page = np.full((638, 1012, 3), 200, np.uint8)
    scene = np.full((8, 720, 1280, 3), 120, np.uint8)
    people = np.full((8, 480, 640, 3), 120, np.uint8)

    def embed() -> object:
        side = pool.face_embedder.chip_size
        return pool.face_embedder.embed(np.full((8, side, side, 3), 120, np.uint8))

    return {
        "page_finder": (lambda: pool.page_finder, lambda: pool.page_finder.find(scene)),
        "mrz_reader": (lambda: pool.mrz_reader, lambda: pool.mrz_reader.read([page])),
        "text_reader": (lambda: pool.text_reader, lambda: pool.text_reader.read(page)),
        "face_detector": (lambda: pool.face_detector, lambda: pool.face_detector.detect(people)),
        "landmarks": (
            lambda: pool.landmarks,
            lambda: pool.landmarks.find(people[0], np.array([200, 100, 400, 300], np.float32)),
        ),
        "face_embedder": (lambda: pool.face_embedder, embed),
    }


def measure(load: Callable[[], object], run: Callable[[], object]) -> dict[str, Any]:
    """Seconds to load and warm, and the median ms of RUNS runs; or the error with which a worker would not start."""
    started = time.perf_counter()
    try:
        load()
        run()
    except (VeridaskError, ImportError, OSError) as error:
        return {"error": str(error) or type(error).__name__}
    loaded = time.perf_counter() - started
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1000)
    return {"load_s": round(loaded, 2), "run_ms": round(sorted(times)[len(times) // 2], 1)}


def main() -> None:
    """Print the JSON lines, each as soon as it is known."""
    limit_library_threads()
    full_precision()
    settings = torch_settings(os.environ)
    _say({"gpus": gpus(), "device": settings.device})
    pool = ModelPool(settings, embedder_settings(os.environ))
    for name, (load, run) in trials(pool).items():
        _say({"model": name, **measure(load, run)})


def gpus() -> list[str]:
    """Names of the GPUs that torch can use."""
    import torch

    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
