"""Runs a measurement (`graphs.evaluation`) on a cluster, with progress, and keeps what it found: JSON and a page.

The cluster is one of its own on this machine, or a running one that cases use as well: jobs carry the labels of their
workers, and their priority is below that of every case.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, Future
from rich.console import Console
from rich.progress import Progress

from graphs.errors import EvaluationError
from graphs.evaluation.barcode import BarcodeSuite
from graphs.evaluation.face import FaceSuite
from graphs.evaluation.mrz import MrzSuite
from graphs.evaluation.page import PageSuite
from graphs.evaluation.presentation import PresentationSuite
from graphs.evaluation.suite import PERSONAL, Job, Measured, Report, Source, Suite, run_job
from graphs.profile import get_profile
from service.cli.evaluation_page import write_page
from service.settings.settings import Settings
from workers.cluster import EmbeddedCluster, connect
from workers.placement import CPU, LOW_PRIORITY
from workers.transport import TlsFiles

SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (MrzSuite(), BarcodeSuite(), PageSuite(), FaceSuite(), PresentationSuite())
}
AT_ONCE = 16
"""Jobs on the cluster at a time: media waits here and not in its memory."""


def suite_named(name: str) -> Suite:
    """Raises EvaluationError for a name that there is not."""
    try:
        return SUITES[name]
    except KeyError:
        raise EvaluationError(f"There is no measurement {name!r}. Measurements: {', '.join(SUITES)}.") from None


async def measure(address: str, jobs: Sequence[Job], tls: TlsFiles | None, progress: Progress) -> list[Measured]:
    """Run all jobs on the cluster at that address; in their order. Raises ClusterError when it does not answer."""
    client = await connect(address, tls=tls)
    told = progress.add_task("items", total=len(jobs))
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(job: Job) -> Measured:
        async with slots:
            found = await _run(client, job)
        progress.advance(told)
        return found

    try:
        return await asyncio.gather(*(one(job) for job in jobs))
    finally:
        await client.close()


async def _run(client: Client, job: Job) -> Measured:
    held: list[Future[Any]] = []
    options: dict[str, Any] = {"pure": False, "priority": LOW_PRIORITY}
    try:
        arguments = job.arguments
        if job.made_by is not None:
            maker, given = job.made_by
            held.append(client.submit(maker, *given, resources={CPU: 1}, **options))
            arguments = (*arguments, held[0])
        held.append(client.submit(run_job, job.function, *arguments, resources={job.label: 1}, **options))
        figures, seconds = await held[-1]
    except asyncio.CancelledError:
        raise
    except Exception as error:  # whatever ends one item, the others are measured, and the report says so
        return Measured(job.item, job.group, job.truth, 0.0, {}, type(error).__name__)
    finally:
        for future in held:
            future.release()
    return Measured(job.item, job.group, job.truth, seconds, figures)


def keep(report: Report, measured: Sequence[Measured], folder: Path) -> tuple[Path, Path]:
    """Write `<suite>.json`, with every item, and `<suite>.html`; gives both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.suite}.json"
    whole = {"suite": report.suite, "figures": report.figures, "items": [_told(one) for one in measured]}
    path.write_text(json.dumps(whole, default=_plain, indent=1), "utf-8")
    return path, write_page(report, folder / f"{report.suite}.html")


def run(
    suite: Suite, source: Source, settings: Settings, out: Path, console: Console
) -> tuple[Report, tuple[Path, Path]]:
    """All of it, on the cluster that the settings name or on one started for this.

    Raises EvaluationError, ClusterError.
    """
    get_profile(source.profile)
    jobs = suite.jobs(source)
    if not jobs:
        raise EvaluationError("There is nothing to measure: no item matches the options.")
    with Progress(console=console) as progress, _cluster(settings, console) as address:
        measured = asyncio.run(measure(address, jobs, settings.cluster_tls, progress))
    report = suite.report(measured)
    return report, keep(report, measured, out)


@contextmanager
def _cluster(settings: Settings, console: Console) -> Iterator[str]:
    if settings.scheduler:
        yield next(iter(settings.cells.values()))
        return
    with tempfile.TemporaryDirectory(prefix="veridask-evaluate-") as folder:
        cluster = EmbeddedCluster(settings.cpu_threads, settings.gpu_threads, Path(folder))
        console.print("Starting a cluster")
        try:
            yield cluster.start()
        finally:
            cluster.stop()


def _told(one: Measured) -> dict[str, Any]:
    """An item without what its document says or its face is."""
    figures = {name: value for name, value in one.figures.items() if name not in PERSONAL}
    return {"item": one.item, "group": one.group, "seconds": one.seconds, "failed": one.failed, "figures": figures}


def _plain(value: object) -> Any:
    """Numbers of numpy's types, which JSON does not know; other things by their words."""
    return value.item() if isinstance(value, np.generic) else str(value)
