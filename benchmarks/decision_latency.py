"""How long a person waits: from the last byte of the last upload to the recorded decision, and what the memory does.

    python -m benchmarks.decision_latency --cases 20 --more 30

Films genuine specimens (synthetic), runs each as a case through HTTP against a server of its own, with the face last
and the two other steps settled, and prints median and 95th percentile, the checks' share, and memory by process after
start and after all cases. `--more` cases without challenge follow for the memory alone. Writes `out/timeline.html`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from distributed import Client
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import report_pages
from benchmarks.report_pages import Result
from benchmarks.timeline import Stretch, stretches, write_timeline
from graphs.records import Step
from models.specimens.scenarios import SCENARIOS, film_step, one_thread
from service.client import VeridaskClient
from service.schemas.cases import CaseView
from service.server.local import LocalServer

FIRST_SEED = 9000
"""No threshold was fitted on seeds from 9000."""
SETTLE_S = 60.0
GENUINE = [scenario for scenario in SCENARIOS if scenario.outcome == "approved"]
Films = Mapping[Step, bytes]


def resident(processes: Mapping[str, int]) -> dict[str, float]:
    """MiB by role: unique set size, children of the API (its probes) counted apart."""
    found: dict[str, float] = {}
    for role, pid in processes.items():
        process = psutil.Process(pid)
        found[role] = process.memory_full_info().uss / 2**20
        if role == "api":
            probes = [c for c in process.children(recursive=False) if "spawn_main" in " ".join(c.cmdline())]
            found["probes"] = sum(c.memory_full_info().uss for c in probes) / 2**20
    return found


def run_case(client: VeridaskClient, case_id: str, films: Films, *, settle: bool) -> CaseView:
    """Upload front and back, wait until they are judged, then upload the face and wait for the decision."""
    for step in ("front", "back"):
        client.upload(case_id, step, films[step], "video/mp4")
    deadline = time.monotonic() + SETTLE_S
    while settle and time.monotonic() < deadline:
        done = {check.name for check in client.case(case_id).checks}
        if {"consistency", "recapture_front", "hologram_front", "barcode_back", "portrait_front"} <= done:
            break
        time.sleep(0.05)
    client.upload(case_id, "face", films["face"], "video/mp4")
    return client.decided(case_id)


def measure(console: Console, cases: int, more: int, *, record: bool = False) -> None:
    """Run everything and print the tables. record: also write them for `docs/measured`."""
    with (
        tempfile.TemporaryDirectory(prefix="veridask-bench-") as folder,
        LocalServer(Path(folder)) as server,
        ProcessPoolExecutor(2, get_context("spawn"), one_thread) as filmers,
    ):
        running = server.start()
        before = resident(running.processes)
        with VeridaskClient(running.url, running.key, timeout_s=120) as client, Client(running.scheduler) as dask:
            dask.get_task_stream()  # the first call starts the recording
            created = [client.create("standard") for _ in range(cases)]
            today = created[0].created_at.date()
            orders: list[dict[Step, Future[bytes]]] = [
                {
                    step: filmers.submit(
                        film_step, GENUINE[i % 2], step, case.challenge, seed=FIRST_SEED + i, today=today
                    )
                    for step in ("front", "back", "face")
                }
                for i, case in enumerate(created)
            ]
            films = [
                {step: order.result() for step, order in each.items()}
                for each in track(orders, "filming", console=console)
            ]
            views = [
                run_case(client, case.id, each, settle=True)
                for case, each in track(list(zip(created, films, strict=True)), "timed cases", console=console)
            ]
            records = dask.get_task_stream()
            tasks = {view.id: stretches(records, view.id) for view in views}
            for i in track(range(more), "more cases", console=console):
                run_case(client, client.create("recorded").id, films[i % cases], settle=False)
        after = resident(running.processes)
    report(console, views, tasks, before, after, cases + more)
    if record:
        waits = [view.timings.decision_ms or 0.0 for view in views]
        outcomes = [view.decision.outcome if view.decision else "none" for view in views]
        console.print(report_pages.write("decision_latency", recorded(waits, outcomes, before, after, more)))


def report(
    console: Console,
    views: Sequence[CaseView],
    tasks: Mapping[str, Sequence[Stretch]],
    before: Mapping[str, float],
    after: Mapping[str, float],
    count: int,
) -> None:
    """Print waiting times, checks and memory; write the timeline of the median case."""
    waits = [view.timings.decision_ms or 0.0 for view in views]
    outcomes: dict[str, int] = defaultdict(int)
    for view in views:
        outcomes[view.decision.outcome if view.decision else "none"] += 1
    cores, gib = psutil.cpu_count() or 0, psutil.virtual_memory().total / 2**30
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, {gib:.0f} GiB, no GPU used")
    console.print(f"{len(views)} genuine specimen cases (synthetic), outcomes {dict(outcomes)}")
    median, p95 = statistics.median(waits), float(np.percentile(waits, 95))
    console.print(f"last upload to decision: median {median:.0f} ms, p95 {p95:.0f} ms, longest {max(waits):.0f} ms")
    durations: dict[str, list[float]] = defaultdict(list)
    for found in tasks.values():
        for stretch in found:
            name = stretch.node if stretch.action == "compute" else f"{stretch.action} for {stretch.node}"
            durations[name].append(1000 * (stretch.stop - stretch.start))
    table = Table("task", "median ms", "p95 ms", title="tasks")
    for name, values in sorted(durations.items(), key=lambda item: -statistics.median(item[1])):
        table.add_row(name, f"{statistics.median(values):.1f}", f"{np.percentile(values, 95):.1f}")
    console.print(table)
    table = Table("process", "after start, MiB", f"after {count} cases, MiB", title="memory (unique set size)")
    for role in before:
        table.add_row(role, f"{before[role]:.0f}", f"{after[role]:.0f}")
    console.print(table)
    middle = sorted(views, key=lambda view: view.timings.decision_ms or 0.0)[len(views) // 2]
    found, received = tasks[middle.id], middle.timings.last_upload_at
    assert received is not None  # a decided case has its uploads
    console.print(_course(found, received.timestamp()))
    page = write_timeline(found, received.timestamp(), middle.timings.decision_ms or 0.0, Path("out") / "timeline.html")
    console.print(f"timeline of the median case: {page}")


def recorded(
    waits_ms: Sequence[float],
    outcomes: Sequence[str],
    before: Mapping[str, float],
    after: Mapping[str, float],
    more: int,
) -> Result:
    """What `docs/measured` says of this run. waits_ms and outcomes: of each timed case."""
    cases = len(waits_ms)
    times = (np.median(waits_ms), np.percentile(waits_ms, 95), max(waits_ms))
    median, p95, longest = (f"{ms / 1000:.2f} s" for ms in times)
    ended = tuple((outcome, str(count)) for outcome, count in Counter(outcomes).items())
    memory = tuple((role, f"{before[role]:.0f}", f"{after[role]:.0f}") for role in before)
    return Result(
        command=f"python -m benchmarks.decision_latency --cases {cases} --more {more}",
        data=f"{cases} genuine synthetic cases, seeds {FIRST_SEED}–{FIRST_SEED + cases - 1} (looked at before), the "
        f"face last; then {more} cases without challenge for the memory",
        hardware=report_pages.machine(),
        date=report_pages.today(),
        headline=f"median {median}, p95 {p95}; {report_pages.machine()}",
        tables=(
            report_pages.Table(("median", "p95", "longest"), ((median, p95, longest),)),
            report_pages.Table(("outcome", "cases"), ended, "Outcomes"),
            report_pages.Table(
                ("process", "after start, MiB", f"after {cases + more} cases, MiB"),
                memory,
                "Memory (unique set size)",
            ),
        ),
    )


def _course(found: Sequence[Stretch], received: float) -> Table:
    """What happened when in one case. received: when its last upload was there, Unix time in s."""
    table = Table("task", "from ms", "to ms", title="the median case, from its last upload on")
    for stretch in sorted(found, key=lambda stretch: stretch.start):
        start, stop = (1000 * (at - received) for at in (stretch.start, stretch.stop))
        if start > 0 and stop - start > 1:
            table.add_row(f"{stretch.node} ({stretch.action})", f"{start:.0f}", f"{stop:.0f}")
    return table


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20, help="timed cases with a challenge")
    parser.add_argument("--more", type=int, default=30, help="further cases, for memory")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/measured")
    arguments = parser.parse_args()
    measure(Console(), arguments.cases, arguments.more, record=arguments.record)


if __name__ == "__main__":
    main()
