"""How quickly the API answers while its cluster is busy: reads and uploads at a steady rate, idle and under load.

    python -m benchmarks.load [--seconds 30] [--reads 40] [--uploads 1] [--players 4] [--out out/load.json]

Starts `veridask serve` with its own cluster. Three phases of the same length: reads alone, reads and uploads, and both
while players keep the cluster busy with whole cases (films of two specimens, synthetic). The rate is open loop: a
request is sent when it is due, whether the ones before were answered or not, and is timed from the moment when it was
due, so that a stall of the server is not hidden by a client that waits for it. Then reads as fast as 8 connections get
answers. Server, workers and clients share the cores of one machine: the times are upper bounds of what a server of its
own would do. Beside them stands what the service itself counted of its reads, in bounds of its histogram, without what
the client waited for before it could send or read. An answer that is not the wanted one is counted by what was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.faults import Films, films_of
from service.client import ProblemError, VeridaskClient
from service.server.local import LocalServer, Running

SEED = 7600
CASES = 20
"""Cases that reads go round; each fourth is a decided one with all its checks."""
CONNECTIONS = 8
WARM_S = 5.0
GOAL_MS = 100.0
READ_ROUTE = "/v1/cases/{case_id}"
LAG, TAKEN = "loop lag, ms at most", "reads by the service's figures, ms at most"
STATUSES = {"requires_input", "processing", "completed", "in_review", "canceled"}


@dataclass
class Told:
    """What a client saw. ms: of good answers, from the moment that each was due; wrong: others, by what they were;
    late: by how many milliseconds the client itself came too late to send.
    """

    seconds: float = 0.0
    ms: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)


Ask = Callable[[httpx.AsyncClient, int], Awaitable[str]]
"""Sends the n-th request; gives what is wrong with the answer, or nothing."""


async def steady(ask: Ask, running: Running, rate: float, seconds: float) -> Told:
    """Requests at a rate, each sent when it is due."""
    told = Told(seconds)

    async def one(http: httpx.AsyncClient, number: int, due: float) -> None:
        told.late.append(1000 * (time.perf_counter() - due))
        await _asked(ask, http, number, due, told)

    async with _client(running) as http:
        await ask(http, round(rate * seconds))  # the connection; a number that is not asked again
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(round(rate * seconds)):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(http, number, due))
    return told


async def flat_out(ask: Ask, running: Running, seconds: float) -> Told:
    """Requests one after the other on several connections."""
    told = Told(seconds)
    async with _client(running) as http:
        end = time.perf_counter() + seconds

        async def lane(first: int) -> None:
            number = first
            while (due := time.perf_counter()) < end:
                await _asked(ask, http, number, due, told)
                number += CONNECTIONS

        await asyncio.gather(*(lane(first) for first in range(CONNECTIONS)))
    return told


def _client(running: Running) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {running.key}"}
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    return httpx.AsyncClient(base_url=running.url, headers=headers, timeout=60, limits=limits)


async def _asked(ask: Ask, http: httpx.AsyncClient, number: int, due: float, told: Told) -> None:
    try:
        wrong = await ask(http, number)
    except httpx.HTTPError as error:
        wrong = type(error).__name__
    if wrong:
        told.wrong[wrong] += 1
    else:
        told.ms.append(1000 * (time.perf_counter() - due))


def reads(running: Running, cases: Sequence[str], rate: float, seconds: float) -> Told:
    """`GET /v1/cases/{id}` at a rate, or flat out with none. For a process of its own."""

    async def ask(http: httpx.AsyncClient, number: int) -> str:
        case_id = cases[number % len(cases)]
        answer = await http.get(f"/v1/cases/{case_id}")
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.json().get('code')}"
        case = answer.json()
        good = case["id"] == case_id and case["status"] in STATUSES
        return "" if good else "another case than asked for"

    return asyncio.run(steady(ask, running, rate, seconds) if rate else flat_out(ask, running, seconds))


def uploads(running: Running, film: bytes, rate: float, seconds: float) -> Told:
    """Uploads of a film at a rate, each to a case of its own, which is ended afterwards. For a process of its own."""
    with VeridaskClient(running.url, running.key, timeout_s=120) as client:
        cases = [client.create("recorded").id for _ in range(round(rate * seconds) + 1)]

    async def ask(http: httpx.AsyncClient, number: int) -> str:
        url = f"/v1/cases/{cases[number]}/uploads/front"
        answer = await http.put(url, content=film, headers={"Content-Type": "video/mp4"})
        return "" if answer.status_code == 202 else f"{answer.status_code} {answer.json().get('code')}"

    told = asyncio.run(steady(ask, running, rate, seconds))
    with VeridaskClient(running.url, running.key, timeout_s=120) as client:
        for case_id in cases:
            if client.case(case_id).status in ("requires_input", "processing"):
                client.cancel(case_id)
    return told


def plays(running: Running, films: Films, seconds: float) -> Told:
    """Whole cases one after the other until the time is over. For a process of its own."""
    told, end = Told(seconds), time.monotonic() + seconds
    with VeridaskClient(running.url, running.key, timeout_s=120) as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            try:
                case = client.create("recorded")
                for step in case.steps:
                    client.upload(case.id, step.step, films[step.step], "video/mp4")
                ended = client.decided(case.id)
            except (ProblemError, httpx.HTTPError, TimeoutError) as error:
                told.wrong[type(error).__name__] += 1
                continue
            if ended.status == "requires_input":
                client.cancel(case.id)
            told.ms.append(1000 * (time.perf_counter() - began))
    return told


def counted(running: Running, name: str, **labels: str) -> dict[float, float]:
    """How often a duration was at most so many seconds, by the service's own figures."""
    headers = {"Authorization": f"Bearer {running.key}"}
    text = httpx.get(f"{running.url}/metrics", headers=headers, timeout=60).text
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"veridask_{name}_seconds_bucket" and labels.items() <= sample.labels.items()
    }


def within_ms(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """The bound in milliseconds that this share of what was counted in between was within."""
    grown = {bound: after[bound] - before.get(bound, 0.0) for bound in after}
    wanted = share * grown[float("inf")]
    return 1000 * min(bound for bound, count in grown.items() if count >= wanted)


def measure(console: Console, seconds: float, read_rate: float, upload_rate: float, players: int) -> dict[str, Any]:
    """All phases; gives what was seen by phase and client."""
    with console.status("filming"):
        films = list(films_of(SEED).values())
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="veridask-load-") as folder,
        LocalServer(Path(folder), key_rate=100_000, case_rate=100_000) as server,
        ProcessPoolExecutor(players + 2, get_context("spawn")) as pool,
        Progress(console=console) as progress,
    ):
        running = server.start()
        with VeridaskClient(running.url, running.key, timeout_s=120) as client:
            decided = [client.create("recorded").id for _ in range(CASES // 4)]
            for number, case_id in enumerate(decided):
                for step in ("front", "back", "face"):
                    client.upload(case_id, step, films[number % 2][step], "video/mp4")
                client.decided(case_id)
            cases = [*decided, *(client.create("recorded").id for _ in range(CASES - len(decided)))]
        Clients = dict[str, Callable[[], Future[Told]]]
        film = films[0]["front"]
        idle: Clients = {"reads": lambda: pool.submit(reads, running, cases, read_rate, seconds)}
        both: Clients = {**idle, "uploads": lambda: pool.submit(uploads, running, film, upload_rate, seconds)}
        most: Clients = {"reads": lambda: pool.submit(reads, running, cases, 0, seconds / 3)}
        phases: dict[str, tuple[bool, Clients]] = {
            "idle, reads": (False, idle),
            "idle, reads and uploads": (False, both),
            "busy": (True, both),
            "idle, flat out": (False, most),
            "busy, flat out": (True, most),
        }

        def figures() -> dict[str, dict[float, float]]:
            return {LAG: counted(running, "loop_lag"), TAKEN: counted(running, "request", route=READ_ROUTE)}

        for name, (busy, clients) in progress.track(phases.items(), description="phases"):
            long_s = seconds + 2 * WARM_S
            playing = [pool.submit(plays, running, films[n % 2], long_s) for n in range(players)] if busy else []
            time.sleep(WARM_S)
            before = figures()
            told = {client: begin() for client, begin in clients.items()}
            seen: dict[str, Any] = {client: shown(future.result()) for client, future in told.items()}
            for (what, then), now in zip(before.items(), figures().values(), strict=True):
                seen[what] = {f"p{100 * share:.0f}": within_ms(then, now, share) for share in (0.5, 0.99)}
            if playing:
                seen["cases"] = shown(_joined([each.result() for each in playing]))
            found[name] = seen
            time.sleep(1.0)
    return found


def _joined(parts: Sequence[Told]) -> Told:
    whole = Told(parts[0].seconds)
    for part in parts:
        whole.ms += part.ms
        whole.wrong += part.wrong
    return whole


def shown(told: Told) -> dict[str, Any]:
    """The figures of what a client saw."""
    ms = told.ms or [float("nan")]
    return {
        "good": len(told.ms),
        "wrong": dict(told.wrong),
        "a_second": round(len(told.ms) / told.seconds, 1),
        "p50_ms": round(float(np.percentile(ms, 50)), 1),
        "p99_ms": round(float(np.percentile(ms, 99)), 1),
        "longest_ms": round(max(ms), 1),
        "client_late_p99_ms": round(float(np.percentile(told.late, 99)), 1) if told.late else None,
    }


def report(console: Console, found: dict[str, Any]) -> bool:
    """Print the table; gives whether the goal was met and every answer was good."""
    table = Table(
        "phase", "client", "good", "wrong", "a second", "p50 ms", "p99 ms", "longest ms", "client late p99 ms"
    )
    wrong = 0
    for phase, clients in found.items():
        for client, seen in clients.items():
            if "good" not in seen:
                continue
            wrong += sum(seen["wrong"].values())
            figures = ("a_second", "p50_ms", "p99_ms", "longest_ms", "client_late_p99_ms")
            table.add_row(phase, client, str(seen["good"]), str(seen["wrong"] or 0), *(str(seen[f]) for f in figures))
    console.print(table)
    for phase, clients in found.items():
        console.print(f"{phase}: {LAG} {clients[LAG]}; {TAKEN} {clients[TAKEN]}")
    p99 = found["busy"]["reads"]["p99_ms"]
    met = p99 < GOAL_MS
    console.print(f"reads while busy: p99 {p99} ms, goal {GOAL_MS:.0f} ms: {'met' if met else 'missed'}; {wrong} wrong")
    return met and not wrong


def main() -> int:
    """Read the command line and measure; gives 1 when the goal is missed or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase")
    parser.add_argument("--reads", type=float, default=40.0, help="a second")
    parser.add_argument("--uploads", type=float, default=1.0, help="a second")
    parser.add_argument("--players", type=int, default=4, help="whole cases at once while busy")
    parser.add_argument("--out", type=Path, default=Path("out") / "load.json")
    given = parser.parse_args()
    console = Console()
    found = measure(console, given.seconds, given.reads, given.uploads, given.players)
    good = report(console, found)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    arguments = {name: str(value) for name, value in vars(given).items()}
    where = {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "cores": os.cpu_count(), "machine": platform.machine()}
    given.out.write_text(json.dumps({**where, "arguments": arguments, "phases": found}, indent=1), "utf-8")
    console.print(str(given.out))
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())
