"""The fault table, played with real processes: what dies, and what must then hold.

    python -m benchmarks.faults [--repetitions 20] [--only scheduler …] [--out out/faults.json]     (make faults)

The topology is the one that operators run (`benchmarks.topology`). For each repetition a patient client plays a case;
at a random moment of it something is killed by SIGKILL, or something else of the table happens. Then must hold: the
case ends; with the outcome and reasons that it has without a fault; decided exactly once; each acknowledged upload is
there, byte for byte, as one attempt. The exit code is 0 only if all of that did.

Films are made once: a genuine person and a photo of a screen, in turn, so that a wrong decision would show. Profile
`recorded`: it asks for no challenge, so that films serve every repetition. Synthetic.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.patient import STEPS, PatientClient
from benchmarks.topology import API, WORKERS, Topology
from graphs.records import Step
from models.specimens.scenarios import SCENARIOS, film_step, one_thread
from service.assembly import opened_stores
from service.schemas.cases import CaseView
from service.settings.settings import Settings
from service.store.rows import Upload

PEOPLE = ("genuine, first person", "photo of a screen")
MOVES = ("turn_left", "look_up")
"""What the face scans show, although nobody asks: a head that keeps still cannot be told from a flat picture."""
Films = Mapping[Step, bytes]
Answer = tuple[str, ...]
"""Outcome and reason codes of a decision."""


@dataclass
class Played:
    """One repetition. waited_s: from the last acknowledgement to the decision, as the client saw it; ready_s: from the
    decision until every process was ready again; broken: the promises that did not hold, in words.
    """

    row: str
    answer: Answer = ()
    waited_s: float = 0.0
    ready_s: float = 0.0
    retried: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """What a row plays with. span_s: how long a case takes without a fault."""

    topology: Topology
    client: PatientClient
    moments: random.Random
    span_s: float

    @property
    def data(self) -> Path:
        """The data folder of the API processes."""
        return self.topology.folder / "data"

    @contextmanager
    def meanwhile(self, happens: Callable[[], None]) -> Iterator[None]:
        """Something happens at a random moment of a case."""
        timer = threading.Timer(self.moments.uniform(0, self.span_s), happens)
        timer.start()
        try:
            yield
        finally:
            timer.join()


Row = Callable[[Stage], CaseView]


def nothing(stage: Stage) -> CaseView:
    """No fault, to compare with."""
    return stage.client.play()


def killed(*roles: str) -> Row:
    """These processes are killed at one random moment, and brought back by their supervisor."""

    def play(stage: Stage) -> CaseView:
        with stage.meanwhile(lambda: stage.topology.kill(*roles)):
            return stage.client.play()

    return play


def api_killed(stage: Stage) -> CaseView:
    """One of the two API processes is killed soon after the last upload was acknowledged."""
    stage.client.create()
    for step in stage.moments.sample(STEPS, len(STEPS)):
        stage.client.upload(step)
    time.sleep(stage.moments.uniform(0, 0.7 * stage.span_s))
    stage.topology.kill(stage.moments.choice(API))
    return stage.client.decided()


def cut_upload(stage: Stage) -> CaseView:
    """An API process is killed in the middle of an upload: that was never acknowledged, and the case still takes it."""
    stage.client.create()
    role = stage.moments.choice(API)
    media = stage.client.films["front"]

    def body() -> Iterator[bytes]:
        cut = stage.moments.randrange(len(media))
        yield media[:cut]
        time.sleep(0.1)
        stage.topology.kill(role)
        time.sleep(0.3)
        yield media[cut:]

    url = f"{stage.topology.urls[role]}/v1/cases/{stage.client.case_id}/uploads/front"
    with suppress(httpx.TransportError):
        headers = {"Content-Type": "video/mp4", "Authorization": f"Bearer {stage.topology.key}"}
        answer = httpx.put(url, content=body(), headers=headers, timeout=30)
        raise AssertionError(f"an upload that was cut was answered with {answer.status_code}")
    for step in STEPS:
        stage.client.upload(step)
    return stage.client.decided()


def many_at_once(stage: Stage) -> CaseView:
    """Each upload is sent three times at once, and again after the decision. One of three is taken; another one only if
    the first was asked for again meanwhile, which the history tells.
    """
    stage.client.create()
    for step in STEPS:
        stage.client.upload_at_once(step, 3)
    case = stage.client.decided()
    if case.status == "completed":
        acknowledged_at = stage.client.acknowledged_at
        if stage.client.upload_at_once("front", 1):
            raise AssertionError("an upload after the decision was taken")
        stage.client.acknowledged_at = acknowledged_at
    return case


def store_locked(stage: Stage) -> CaseView:
    """Another process holds the database for longer than anybody waits."""

    def hold() -> None:
        with closing(sqlite3.connect(stage.data / "cases.sqlite", isolation_level=None, timeout=30)) as store:
            store.execute("BEGIN EXCLUSIVE")
            time.sleep(stage.moments.uniform(1, 7))
            store.execute("ROLLBACK")

    with stage.meanwhile(hold):
        return stage.client.play()


def evidence_away(stage: Stage) -> CaseView:
    """The evidence folder cannot be reached for some seconds."""
    evidence, aside = stage.data / "evidence", stage.data / "aside"

    def take_away() -> None:
        evidence.rename(aside)
        evidence.touch()  # a file in its place: nothing can be written there, nor folders be made
        time.sleep(stage.moments.uniform(0.5, 4))
        evidence.unlink()
        aside.rename(evidence)

    with stage.meanwhile(take_away):
        return stage.client.play()


ROWS: Mapping[str, Row] = {
    "no fault": nothing,
    "CPU worker killed": killed("cpu"),
    "GPU worker killed": killed("gpu"),
    "all workers killed": killed(*WORKERS),
    "API process killed after the last upload": api_killed,
    "scheduler killed": killed("scheduler"),
    "everything killed": killed("scheduler", *WORKERS, *API),
    "API process killed in the middle of an upload": cut_upload,
    "each upload three times at once": many_at_once,
    "database locked": store_locked,
    "evidence away": evidence_away,
}


def answer_of(case: CaseView) -> Answer:
    """What was decided."""
    assert case.decision is not None  # the caller waited for it
    return (case.decision.outcome, *sorted(reason.code for reason in case.decision.reasons))


def promises(stage: Stage, expected: Answer, answer: Answer) -> list[str]:
    """Which promises do not hold for a case that was decided; empty when all do."""
    broken = [] if answer == expected else [f"decided {answer}, without a fault {expected}"]
    told, uploads = asyncio.run(kept_of(stage))
    broken += broken_history(told)
    received = {(event["step"], event["attempt"]) for _, event in told if event.get("state") == "received"}
    if (
        received != {(upload.step, upload.attempt) for upload, _ in uploads}
        or len(received) < stage.client.acknowledged
    ):
        broken.append(f"{stage.client.acknowledged} uploads acknowledged, {sorted(received)} told, {len(uploads)} kept")
    for upload, kept in uploads:
        media = stage.client.films[upload.step]
        if kept != media or upload.sha256 != hashlib.sha256(media).hexdigest():
            broken.append(f"{upload.step} is not what was uploaded")
    return broken


async def kept_of(stage: Stage) -> tuple[list[tuple[str, Mapping[str, Any]]], list[tuple[Upload, bytes]]]:
    """What the store and the evidence hold of the case: steps and decisions as told, uploads with their media."""
    async with opened_stores(Settings(data_dir=stage.data)) as (store, evidence):
        case_id = stage.client.case_id
        told = [(event.type, event.data) for event in await store.events(case_id) if event.type in ("step", "decision")]
        return told, [(upload, await evidence.read(upload.evidence_key)) for upload in await store.uploads(case_id)]


def broken_history(told: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """What must not stand in the events of a decided case: a step taken twice without a retake between, a decision
    before every step has come, or a second one on the same uploads. told: types and data, in their order.
    """
    broken = []
    taken: dict[str, int] = {}
    wanted = set(STEPS)
    news = False
    decisions = 0
    for kind, event in told:
        if kind == "decision":
            decisions += 1
            if not news or set(taken) != set(STEPS):
                broken.append(f"decision {decisions} rests on nothing new, or not on all steps")
            news = False
        elif event["state"] == "retake":
            wanted.add(event["step"])
        else:
            step, attempt = event["step"], event["attempt"]
            if step not in wanted or attempt != taken.get(step, 0) + 1:
                broken.append(f"{step} was taken as attempt {attempt} after {taken.get(step, 0)}, not asked for")
            taken[step], news = attempt, True
            wanted.discard(step)
    return broken if decisions else [*broken, "no decision"]


def play(row: str, topology: Topology, films: Films, seed: str, span_s: float, expected: Answer | None) -> Played:
    """One repetition of a row."""
    moments = random.Random(seed)
    client = PatientClient(topology.urls, topology.key, films, moments)
    stage, played = Stage(topology, client, moments, span_s), Played(row)
    try:
        played.answer = answer_of(ROWS[row](stage))
        played.waited_s = time.monotonic() - client.acknowledged_at
        played.broken += promises(stage, expected or played.answer, played.answer)
    except (TimeoutError, AssertionError) as error:
        played.broken.append(f"{type(error).__name__}: {error}")
    finally:
        client.close()
    played.retried = client.retried
    played.ready_s = topology.until_ready()
    return played


def films_of(seed: int) -> dict[str, Films]:
    """The films of both people, made in child processes."""
    chosen = [scenario for scenario in SCENARIOS if scenario.name in PEOPLE]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), one_thread) as pool:
        jobs = {
            (person.name, step): pool.submit(film_step, person, step, MOVES, seed=seed, today=datetime.now(UTC).date())
            for person in chosen
            for step in STEPS
        }
        return {name: {step: jobs[name, step].result() for step in STEPS} for name in PEOPLE}


def report(console: Console, found: Sequence[Played]) -> None:
    """Print one line for each row of the fault table."""
    table = Table(
        "what happens", "n", "promises broken", "asked again", "wait, median s", "longest s", "all ready again, s",
        title="from the last acknowledgement to the decision, as the client sees it",
    )  # fmt: skip
    for row in dict.fromkeys(one.row for one in found):
        of_row = [one for one in found if one.row == row]
        waits = [one.waited_s for one in of_row if not one.broken] or [float("nan")]
        table.add_row(
            row,
            str(len(of_row)),
            str(sum(bool(one.broken) for one in of_row)),
            f"{statistics.mean(one.retried for one in of_row):.1f}",
            f"{statistics.median(waits):.1f}",
            f"{max(waits):.1f}",
            f"{statistics.median(one.ready_s for one in of_row):.1f}",
        )
    console.print(table)
    for one in found:
        for broken in one.broken:
            console.print(f"[red]{one.row}: {broken}[/red]")


def main() -> int:
    """Read the command line, play, print; gives 1 when a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7300)
    parser.add_argument("--only", nargs="*", metavar="ROW", default=[], help="parts of names of rows")
    parser.add_argument("--out", type=Path, default=Path("out") / "faults.json")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if row == "no fault" or not arguments.only or any(p in row for p in arguments.only)]
    console, found = Console(), list[Played]()
    with console.status("filming"):
        films = films_of(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="veridask-faults-") as folder, Topology(Path(folder)) as topology:
        expected: dict[str, Answer] = {}
        spans = []
        for person in PEOPLE:
            began = time.monotonic()
            expected[person] = play("no fault", topology, films[person], f"first {person}", 1.0, None).answer
            spans.append(time.monotonic() - began)
        console.print(f"without a fault: {expected}; a case takes {max(spans):.1f} s from its creation on")
        jobs = [(row, number) for row in rows for number in range(arguments.repetitions)]
        for row, number in track(jobs, "repetitions", console=console):
            person = PEOPLE[number % len(PEOPLE)]
            seed = f"{arguments.seed} {row} {number}"
            one = play(row, topology, films[person], seed, max(spans), expected[person])
            found.append(one)
            for broken in one.broken:
                console.print(f"[red]{row}, repetition {number}: {broken}[/red]")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([asdict(one) for one in found], indent=1))
    report(console, found)
    console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {arguments.out}")
    return int(any(one.broken for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
