"""Many cases in a row: whether memory stays flat, and whether anything is left behind.

    python -m benchmarks.soak [--cases 1000] [--out out/soak.html]

Starts `veridask serve` and plays one case after the other, two at a time: nine of ten are documents alone (profile
`document`, a still of the film as JPEG), each tenth is a whole case with films (profile `recorded`). Records the unique
set size of every process, draws it, and looks at the end whether the scheduler still knows a key. Synthetic media.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
from bokeh.plotting import figure, output_file, save
from distributed import Client
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import report_pages
from benchmarks.decision_latency import Films, resident
from benchmarks.faults import films_of
from benchmarks.report_pages import Result
from graphs.records import Step
from models.media.decoding import MediaLimits, sample_frames
from service.client import VeridaskClient
from service.server.local import LocalServer, Running

SEED = 7500
WHOLE_EVERY = 10
AT_ONCE = 2
EVERY = 25
"""Cases from one look at the memory to the next."""
COLOURS: Mapping[str, str] = {"api": "#1f77b4", "scheduler": "#2ca02c", "cpu-0": "#d62728", "gpu-0": "#9467bd"}


def still_of(film: bytes) -> bytes:
    """The middle one of a film's frames as JPEG."""
    frames = sample_frames(film, rate_hz=2, max_frames=6, max_side=1280, limits=MediaLimits())
    picture = frames.images[len(frames.images) // 2]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def play(running: Running, number: int, films: Films, stills: Mapping[Step, bytes]) -> str:
    """One case; gives its outcome."""
    with VeridaskClient(running.url, running.key, timeout_s=120) as client:
        if number % WHOLE_EVERY == 0:
            case = client.create("recorded")
            media, kind = films, "video/mp4"
        else:
            case = client.create("document")
            media, kind = stills, "image/jpeg"
        for step in case.steps:
            client.upload(case.id, step.step, media[step.step], kind)
        ended = client.decided(case.id)
        if ended.status == "requires_input":
            client.cancel(case.id)
        return ended.decision.outcome if ended.decision else "none"


def left_behind(scheduler: str) -> tuple[int, int]:
    """Keys that the scheduler knows and cases that it holds, after some seconds of rest."""

    def count(dask_scheduler: Any) -> tuple[int, int]:
        return len(dask_scheduler.tasks), dask_scheduler.plugins["veridask-uploads"].count()

    with Client(scheduler, set_as_default=False) as client:
        for _ in range(60):
            found: tuple[int, int] = client.run_on_scheduler(count)
            if found == (0, 0):
                break
            time.sleep(1)
        return found


def draw(looks: Mapping[int, Mapping[str, float]], path: Path) -> None:
    """The memory of each process over the cases, as a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    output_file(path, title="memory over cases")
    plot = figure(width=900, height=420, x_axis_label="cases", y_axis_label="unique set size, MiB")
    for role, colour in COLOURS.items():
        plot.line(list(looks), [look[role] for look in looks.values()], color=colour, legend_label=role, line_width=2)
    plot.legend.location = "top_left"
    save(plot)


def main() -> int:
    """Read the command line, play, print; gives 1 when keys are left behind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("out") / "soak.html")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/measured")
    arguments = parser.parse_args()
    console, began = Console(), time.monotonic()
    with console.status("filming"):
        films = films_of(SEED)["genuine, first person"]
        stills: dict[Step, bytes] = {"front": still_of(films["front"]), "back": still_of(films["back"])}
    outcomes: dict[str, int] = {}
    looks: dict[int, Mapping[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="veridask-soak-") as folder, LocalServer(Path(folder)) as server:
        running = server.start()
        looks[0] = resident(running.processes)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in track(range(0, arguments.cases, EVERY), "cases", console=console):
                numbers = range(start, min(start + EVERY, arguments.cases))
                for outcome in pool.map(lambda number: play(running, number, films, stills), numbers):
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
                looks[numbers[-1] + 1] = resident(running.processes)
        keys, held = left_behind(running.scheduler)
        looks[arguments.cases + 1] = resident(running.processes)
    draw(looks, arguments.out)
    table = Table("process", *(f"after {count}, MiB" for count in shown(looks)), title="unique set size")
    for role in COLOURS:
        table.add_row(role, *(f"{looks[count][role]:.0f}" for count in shown(looks)))
    console.print(table)
    console.print(f"outcomes {outcomes}; {keys} keys and {held} cases left on the scheduler; {arguments.out}")
    console.print(f"{time.monotonic() - began:.0f} s; {platform.machine()}, {os.cpu_count()} cores")
    if arguments.record:
        console.print(report_pages.write("soak", recorded(looks, outcomes, keys, held)))
    return int(bool(keys or held))


def recorded(looks: Mapping[int, Mapping[str, float]], outcomes: Mapping[str, int], keys: int, held: int) -> Result:
    """What `docs/measured` says of this run. keys, held: what is left on the scheduler."""
    counts, cases = shown(looks), sum(outcomes.values())
    memory = tuple((role, *(f"{looks[count][role]:.0f}" for count in counts)) for role in COLOURS)
    left = (
        *((outcome, f"{count}") for outcome, count in outcomes.items()),
        ("keys left on the scheduler", str(keys)),
        ("cases left on the scheduler", str(held)),
    )
    columns = ("process", *(f"{count:,} cases, MiB" for count in counts))
    return Result(
        command=f"python -m benchmarks.soak --cases {cases}",
        data=f"{cases:,} cases, {AT_ONCE} at a time, each tenth of films, the others of stills",
        hardware=report_pages.machine(),
        date=report_pages.today(),
        headline=f"{cases:,} cases in a row: {keys} keys and {held} cases left on the scheduler",
        tables=(
            report_pages.Table(columns, memory, "Unique set size"),
            report_pages.Table(("figure", "value"), left, "Outcomes, and what is left behind"),
        ),
    )


def shown(looks: Mapping[int, Mapping[str, float]]) -> list[int]:
    """The looks that are printed: the first, that at 100, and some up to the last one."""
    counts = sorted(looks)[:-1]
    return sorted({count for count in counts if count in (0, 100, 250, 500, 750)} | {counts[-1]})


if __name__ == "__main__":
    raise SystemExit(main())
