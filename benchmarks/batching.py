"""Faces of concurrent cases, each call alone against calls joined into shared passes, in one run.

    python -m benchmarks.batching [--device auto] [--callers 16] [--rounds 5] [--wait-ms 2] [--items 64]

Every caller is a thread and does what a case's half of a face scan does: searches three whole frames, then the
surroundings of the face in thirteen more, then embeds four chips both ways. Rounds alternate between the two ways, so
that a busy machine slows both; the figures are medians of rounds. Also says how far the results are apart.

On the CPU, joined calls use one core at a time and calls alone use all. Where other processes leave this one no more
than a core, both have the same, and their speeds say nothing about a free machine: the cores that each way got are in
the table, and a line below it says when they do not suffice. CPU time of an item holds either way.
"""

from __future__ import annotations

import argparse
import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.checks.face_speed import frame
from models.face.landmarks import face_chip
from workers.placement import GPU
from workers.pool import ModelPool
from workers.preload import full_precision, keep_freed_memory, limit_library_threads
from workers.settings import BATCH_ITEMS, BATCH_WAIT_MS, DEVICE, TorchSettings, torch_settings

WHOLE, NEAR, CHIPS = 3, 13, 4
MIN_FACE = 120

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scan:
    """What one caller brings. whole, near: frames; boxes: where the face is in `near`; chips: of that face."""

    whole: U8
    near: U8
    boxes: npt.NDArray[np.float32]
    chips: U8


@dataclass(frozen=True)
class Work:
    """One row. items: what one caller gets out of it: embeddings, or frames searched."""

    what: str
    model: str
    items: int
    run: Callable[[ModelPool, Scan], object]


WORKS = (
    Work("whole frames", "face_detector", WHOLE, lambda p, s: p.face_detector.detect(s.whole, min_face=MIN_FACE)),
    Work("near a face", "face_detector", NEAR, lambda p, s: p.face_detector.detect_near(s.near, s.boxes)),
    Work("embeddings", "face_embedder", 2 * CHIPS, lambda p, s: p.face_embedder.embed_both_ways(s.chips)),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wait-ms", default="2")
    parser.add_argument("--items", default="64")
    options = parser.parse_args()
    limit_library_threads()
    keep_freed_memory()
    full_precision()
    joined = torch_settings({DEVICE: options.device, BATCH_ITEMS: options.items, BATCH_WAIT_MS: options.wait_ms})
    pools = {"alone": ModelPool(TorchSettings(joined.device)), "joined": ModelPool(joined)}
    for pool in pools.values():
        pool.warm(GPU)
    scans = [scan(pools["alone"], number) for number in range(options.callers)]
    console = Console(width=120)
    console.print(f"{hardware(joined)}; torch {torch.__version__}, one thread for each call")
    table = Table(title=f"{options.callers} callers at once, medians of {options.rounds} rounds")
    table.add_column("")
    for column in ("alone /s", "joined /s", "alone CPU", "joined CPU", "alone cores", "joined cores"):
        table.add_column(column, justify="right")
    for column in ("mean batch", "calls a pass", "wait"):
        table.add_column(column, justify="right")
    got = []
    for work in WORKS:
        cells, cores = measured(work, pools, scans, options.rounds)
        table.add_row(work.what, *cells)
        got.append(cores)
    console.print(table)
    enough = 0.8 * min(options.callers, len(os.sched_getaffinity(0)))
    if not joined.on_cuda and min(got) < enough:
        console.print(f"calls alone got {min(got):.1f} cores: too busy a machine to compare speeds; compare CPU time")
    console.print(f"largest difference, joined and alone: {difference(pools, scans):.1e} of an embedding's number")


def scan(pool: ModelPool, number: int) -> Scan:
    """Frames of a face that moves, another for each caller."""
    picture = frame()
    frames = np.stack([np.roll(picture, (number + 2 * step, 3 * step), axis=(0, 1)) for step in range(WHOLE + NEAR)])
    found = pool.face_detector.detect(frames[:1], min_face=MIN_FACE)[0]
    if not found:
        raise SystemExit("no face found in the portrait")
    points = pool.landmarks.find(frames[0], found[0].box)
    chip = face_chip(frames[0], points)
    moves = np.array([[3 * step, 2 * step] * 2 for step in range(WHOLE, WHOLE + NEAR)], np.float32)
    chips = np.stack([np.roll(chip, step, axis=1) for step in range(CHIPS)])
    return Scan(frames[:WHOLE], frames[WHOLE:], found[0].box + moves, chips)


def measured(work: Work, pools: dict[str, ModelPool], scans: list[Scan], rounds: int) -> tuple[list[str], float]:
    """The cells of one row, and the cores that calls alone got."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pools}
    for pool in pools.values():
        at_once(work, pool, scans)
    before = pools["joined"].figures()[work.model]
    for _ in range(rounds):
        for name, pool in pools.items():
            times[name].append(at_once(work, pool, scans))
    after = pools["joined"].figures()[work.model]
    calls, passes, rows = (after[name] - before[name] for name in ("calls", "passes", "items"))
    items = work.items * len(scans)
    speed = {name: items / median(wall for wall, _ in rounds_of) for name, rounds_of in times.items()}
    cpu_ms = {name: 1000 * median(cpu for _, cpu in rounds_of) / items for name, rounds_of in times.items()}
    cores = {name: median(cpu / wall for wall, cpu in rounds_of) for name, rounds_of in times.items()}
    cells = [
        *(f"{one:.1f}" for one in speed.values()),
        *(f"{one:.1f} ms" for one in cpu_ms.values()),
        *(f"{one:.2f}" for one in cores.values()),
        *(f"{rows / passes:.1f}", f"{calls / passes:.1f}"),
        f"{1000 * (after['wait_s'] - before['wait_s']) / calls:.0f} ms",
    ]
    return cells, cores["alone"]


def at_once(work: Work, pool: ModelPool, scans: list[Scan]) -> tuple[float, float]:
    """Seconds from the start of all callers to the end of the last, and of CPU."""
    ready = threading.Barrier(len(scans) + 1)

    def call(one: Scan) -> None:
        ready.wait()
        work.run(pool, one)

    with ThreadPoolExecutor(len(scans)) as threads:
        calls = [threads.submit(call, one) for one in scans]
        ready.wait()
        start, cpu = time.perf_counter(), time.process_time()
        for running in calls:
            running.result()
        return time.perf_counter() - start, time.process_time() - cpu


def difference(pools: dict[str, ModelPool], scans: list[Scan]) -> float:
    """The largest of all numbers of all embeddings, while all callers embed at once."""
    with ThreadPoolExecutor(len(scans)) as threads:
        joined = list(threads.map(lambda one: pools["joined"].face_embedder.embed_both_ways(one.chips), scans))
    alone = [pools["alone"].face_embedder.embed_both_ways(one.chips) for one in scans]
    return float(np.abs(np.stack(joined) - np.stack(alone)).max())


def hardware(settings: TorchSettings) -> str:
    """What the networks run on."""
    if settings.on_cuda:
        return f"{torch.cuda.get_device_name(settings.device)}, {os.cpu_count()} cores beside it"
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text("utf-8").splitlines() if line.startswith("model name")]
    return f"CPU: {models[0].split(':')[1].strip() if models else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
