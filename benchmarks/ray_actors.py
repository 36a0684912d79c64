"""The design that is answered here, in its smallest form: one Ray actor process per open case.

The actor holds its uploads and combines them; it loads no model and decodes nothing, so its figures are a lower bound.
Ray is not among the project's dependencies: `pip install ray` first.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

LEAST_FREE = 3 * 2**30
"""Memory in bytes that is left free on this machine: then no more actors fit."""


@dataclass(frozen=True)
class ActorFigures:
    """actors: how many were open; mib: unique memory of each; create_ms: median time until one answers; wait_ms: median
    time from the last upload to the combined result, with all of them open.
    """

    actors: int
    mib: float
    create_ms: float
    wait_ms: float


def measure_actors(most: int, media: bytes) -> ActorFigures:
    """Open cases as actors, `most` or as many as fit. Raises ImportError without Ray."""
    import ray

    class Case:
        """An open case."""

        def __init__(self) -> None:
            self.uploads: dict[str, bytes] = {}

        def upload(self, step: str, content: bytes) -> int:
            """Take an upload."""
            self.uploads[step] = content
            return len(self.uploads)

        def decide(self) -> int:
            """Combine."""
            return sum(map(len, self.uploads.values()))

    ray.init(num_cpus=2, include_dashboard=False, logging_level=40, configure_logging=False)
    actor: Any = ray.remote(num_cpus=0)(Case)
    opened: list[Any] = []
    times: list[float] = []
    try:
        while len(opened) < most and psutil.virtual_memory().available > LEAST_FREE:
            began = time.perf_counter()
            case = actor.remote()
            ray.get(case.decide.remote())
            times.append(1000 * (time.perf_counter() - began))
            opened.append(case)
        memory = [process.memory_full_info().uss / 2**20 for process in _actors()]
        waits = []
        for case in opened[:20]:
            for step in ("front", "back"):
                ray.get(case.upload.remote(step, media))
            began = time.perf_counter()
            ray.get(case.upload.remote("face", media))
            ray.get(case.decide.remote())
            waits.append(1000 * (time.perf_counter() - began))
        return ActorFigures(len(opened), statistics.median(memory), statistics.median(times), statistics.median(waits))
    finally:
        ray.shutdown()


def _actors() -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ray::Case" in " ".join(process.cmdline()):
                yield process
