"""What an open case costs, and whether many of them slow down one that is being decided.

    python -m benchmarks.open_cases [--open 1000 10000] [--cases 9] [--actors 200]

Starts `veridask serve`, opens cases over REST that wait for their uploads, and plays a few cases to their decision in
between: with none open, and at each of the numbers given. Then Ray actors, one process per open case, as many as are
asked for or fit (`benchmarks.ray_actors`), when Ray is installed. Films: one genuine synthetic person, profile
`recorded`, so that the same films serve all.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import report_pages
from benchmarks.decision_latency import Films, resident, run_case
from benchmarks.faults import films_of
from benchmarks.ray_actors import ActorFigures, measure_actors
from benchmarks.report_pages import Result
from service.client import VeridaskClient
from service.server.local import LocalServer, Running

SEED = 7400
CREATORS = 4
"""Threads that open cases at once."""


@dataclass(frozen=True)
class Level:
    """open: cases that wait for their uploads. waits_ms: from the last upload to the decision, one for each case played
    then; create_ms: mean time for one of the cases opened since the level before; memory: MiB by role.
    """

    open: int
    waits_ms: tuple[float, ...]
    create_ms: float
    memory: dict[str, float]


def level(running: Running, films: Films, count: int, already: int, cases: int, console: Console) -> Level:
    """Open cases until there are `count`, then play `cases` to their decision."""
    local = threading.local()

    def create(_number: int) -> None:
        if not hasattr(local, "client"):
            local.client = VeridaskClient(running.url, running.key, timeout_s=120)
        local.client.create("standard")

    began = time.perf_counter()
    with ThreadPoolExecutor(CREATORS) as pool, Progress(console=console) as progress:
        task = progress.add_task(f"opening {count} cases", total=count - already)
        for _ in pool.map(create, range(count - already)):
            progress.advance(task)
    spent = 1000 * (time.perf_counter() - began) / max(count - already, 1)
    time.sleep(3)
    memory = resident(running.processes)
    with VeridaskClient(running.url, running.key, timeout_s=120) as client:
        views = [run_case(client, client.create("recorded").id, films, settle=True) for _ in range(cases)]
    waits = tuple(view.timings.decision_ms or 0.0 for view in views)
    return Level(count, waits, spent if count > already else float("nan"), memory)


def report(console: Console, levels: Sequence[Level]) -> None:
    """Print one line for each number of open cases."""
    table = Table(
        "open", "opening one, ms", "wait, median ms", "longest ms", "API, MiB", "scheduler, MiB", "KB a case",
        title="open cases; wait: from the last upload of another case to its decision; KB: of the scheduler",
    )  # fmt: skip
    for one in levels:
        grown = 1024 * (one.memory["scheduler"] - levels[0].memory["scheduler"]) / max(one.open, 1)
        table.add_row(
            f"{one.open:,}",
            f"{one.create_ms:.1f}",
            f"{statistics.median(one.waits_ms):.0f}",
            f"{max(one.waits_ms):.0f}",
            f"{one.memory['api']:.0f}",
            f"{one.memory['scheduler']:.0f}",
            f"{grown:.0f}" if one.open else "",
        )
    console.print(table)


def recorded(levels: Sequence[Level], cases: int, actors: ActorFigures | None) -> Result:
    """What `docs/measured` says of this run."""
    waits = tuple((f"{one.open:,}", f"{statistics.median(one.waits_ms):,.0f} ms") for one in levels)
    last, opened = levels[-1], " ".join(str(one.open) for one in levels[1:])
    grown = 1024 * (last.memory["scheduler"] - levels[0].memory["scheduler"]) / max(last.open, 1)
    cost = (
        ("opening one", f"{last.create_ms:.1f} ms"),
        ("a case on the scheduler", f"{grown:.0f} KB"),
        (f"scheduler, with {last.open:,} open", f"{last.memory['scheduler']:,.0f} MiB"),
        (f"API, with {last.open:,} open", f"{last.memory['api']:,.0f} MiB"),
    )
    tables = [
        report_pages.Table(("open cases", "last upload of another case to its decision, median"), waits),
        report_pages.Table(("figure", "value"), cost, "Cost of an open case"),
    ]
    if actors is not None:
        title = "One Ray actor process per open case, the smallest form of it, same run"
        row = (f"{actors.mib:.0f} MiB", f"{actors.create_ms:.0f} ms")
        tables.append(report_pages.Table(("memory", "time"), (row,), title))
    return Result(
        command=f"python -m benchmarks.open_cases --open {opened} --cases {cases}",
        data=f"films of one synthetic person, seed {SEED}, {cases} cases at each level",
        hardware=report_pages.machine(),
        date=report_pages.today(),
        headline=f"median wait {waits[0][1]} with none open, {waits[-1][1]} with {last.open:,}; {grown:.0f} KB of the "
        f"scheduler and {last.create_ms:.1f} ms each",
        tables=tuple(tables),
    )


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--cases", type=int, default=9, help="cases played at each level")
    parser.add_argument("--actors", type=int, default=200, help="Ray actors at most; 0 leaves them out")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/measured")
    arguments = parser.parse_args()
    console = Console()
    with console.status("filming"):
        films = films_of(SEED)["genuine, first person"]
    folder_of = tempfile.TemporaryDirectory(prefix="veridask-open-")
    # One key opens all these cases, as fast as they can be opened.
    with folder_of as folder, LocalServer(Path(folder), key_rate=100_000) as server:
        running = server.start()
        with VeridaskClient(running.url, running.key, timeout_s=120) as client:
            run_case(client, client.create("recorded").id, films, settle=True)  # the first one warms caches
        levels: list[Level] = []
        for count in (0, *arguments.open):
            already = levels[-1].open if levels else 0
            levels.append(level(running, films, count, already, arguments.cases, console))
    report(console, levels)
    actors = None
    if arguments.actors:
        try:
            actors = measure_actors(arguments.actors, films["front"])
        except ImportError:
            console.print("Ray is not installed: pip install ray")
        else:
            console.print(
                f"{actors.actors} Ray actors, one per open case: {actors.mib:.0f} MiB, {actors.create_ms:.0f} ms each; "
                f"last upload to a result without any check: {actors.wait_ms:.0f} ms"
            )
    console.print(f"{platform.machine()}, {os.cpu_count()} cores")
    if arguments.record:
        console.print(report_pages.write("open_cases", recorded(levels, arguments.cases, actors)))


if __name__ == "__main__":
    main()
