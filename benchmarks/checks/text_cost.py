"""What reading the front of a document costs, by stage, and what is found, on specimen films of unseen seeds.

    python -m benchmarks.checks.text_cost [--seeds 30000-30009]

CPU milliseconds of this process for a page, on one thread, which on an idle machine are wall time. Each seed is filmed,
decoded and rectified as in the flow, and its fields are compared with the zone of its back by
`models.fields.consistency`.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from statistics import median
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphs.document import FRAMES_PER_SECOND, MAX_FRAMES, MAX_SIDE, pages
from models.fields.consistency import compare
from models.media.decoding import MediaLimits, sample_frames
from models.mrz.icao9303 import parse
from models.specimens.capture import front_scene, record
from models.specimens.document import Specimen, make_specimen
from models.text.boxes import BoxFinder
from models.text.reader import TextReader
from models.text.strips import StripReader
from workers.pool import ModelPool

Image = npt.NDArray[np.uint8]
Result = TypeVar("Result")
TODAY = date(2026, 7, 1)
VOTERS = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="30000-30009", help="first and last, with a hyphen")
    first, last = (int(part) for part in parser.parse_args().seeds.split("-"))
    cv2.setNumThreads(0)
    console, pool = Console(), ModelPool()
    reader, find, strips = TextReader(), BoxFinder(), StripReader()
    costs: dict[str, list[float]] = {"find lines": [], "which way is up": [], "read lines": [], "page, all": []}
    answers: Counter[str] = Counter()
    lines = []
    for seed in track(range(first, last + 1), "pages", console=console):
        specimen = _specimen(seed)
        page = _page(specimen, seed, pool)
        if page is None:
            continue
        boxes = _timed(costs["find lines"], find, page)
        _timed(costs["which way is up"], strips.upside_down, page, boxes[:VOTERS])
        _timed(costs["read lines"], strips.read, page, boxes)
        text = _timed(costs["page, all"], reader.read, page)
        lines.append(len(text.lines))
        answers.update(field.agrees for field in compare(parse(specimen.mrz), text, None).fields)
    table = Table("stage", "median, CPU ms", "largest", title=f"{len(lines)} pages of {median(lines):.0f} lines")
    for stage, milliseconds in costs.items():
        table.add_row(stage, f"{median(milliseconds):.0f}", f"{max(milliseconds):.0f}")
    console.print(table)
    console.print(f"fields of the zone: found {answers['yes']}, not found {answers['unknown']}, "
                  f"contradicted {answers['no']}")  # fmt: skip


def _specimen(seed: int) -> Specimen:
    if seed % 2:
        return make_specimen(seed, design="ochre", portrait="grace_hopper", today=TODAY)
    return make_specimen(seed, design="azure", portrait="astronaut", today=TODAY)


def _page(specimen: Specimen, seed: int, pool: ModelPool) -> Image | None:
    """The sharpest page of a film, as the flow has it: uint8 (638, 1012, 3); None when no page is found."""
    frames = sample_frames(
        record(front_scene(specimen, seed=seed)).data,
        rate_hz=FRAMES_PER_SECOND["front"],
        max_frames=MAX_FRAMES,
        max_side=MAX_SIDE,
        limits=MediaLimits(),
    )
    best = pages(frames, pool).best
    return best[0].image if best else None


def _timed(costs: list[float], work: Callable[..., Result], *given: object) -> Result:
    """The result; its milliseconds of CPU are appended to `costs`."""
    start = time.process_time()
    result = work(*given)
    costs.append(1000 * (time.process_time() - start))
    return result


if __name__ == "__main__":
    main()
