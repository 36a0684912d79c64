"""`veridask demo`: the whole system on one machine, from films of specimens to decisions, over HTTP.

Films every scenario (the face scans follow the challenge that each case was given), uploads front, back and face, waits
for the decision and compares it with what the scenario demands: outcome *and* first reason. Films are made before any
case is timed, in processes of their own, so the milliseconds shown are the system's alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from multiprocessing import get_context
from pathlib import Path
from shutil import copytree

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from graphs.records import Step
from models.specimens.scenarios import SCENARIOS, Scenario, film_step, one_thread
from service.client import VeridaskClient
from service.schemas.cases import CaseView
from service.server.local import LocalServer

STEPS: tuple[Step, ...] = ("front", "back", "face")
FILMERS = 2


@dataclass
class Play:
    """One scenario on its way: its case, its films, and what came out."""

    scenario: Scenario
    case_id: str
    films: Mapping[Step, Future[bytes]]
    case: CaseView | None = None
    uploaded: list[str] = field(default_factory=list)

    @property
    def as_expected(self) -> bool:
        """Whether outcome and first reason are those that the scenario demands."""
        return self.case is not None and outcome_of(self.case) == (self.scenario.outcome, self.scenario.reason)


def outcome_of(case: CaseView) -> tuple[str, str]:
    """Outcome and first reason of a decided case; empty where there is none."""
    if case.decision is None:
        return "", ""
    return case.decision.outcome, case.decision.reasons[0].code if case.decision.reasons else ""


def demo(seed: int, keep: bool) -> int:
    """Play all scenarios; gives 0 if each came out as expected, else 1. seed: of documents, motion and light.

    keep: leave the data folder of the run (store, evidence, Zarr groups, logs) under `out/demo`.
    """
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="veridask-demo-") as folder,
        LocalServer(Path(folder)) as server,
        ProcessPoolExecutor(FILMERS, get_context("spawn"), one_thread) as filmers,
    ):
        films = Films(filmers, seed, datetime.now(UTC).date())
        for scenario in SCENARIOS:
            films.order(scenario, "front")
            films.order(scenario, "back")
        with console.status("Starting scheduler, workers and API; loading models; filming documents"):
            started = time.monotonic()
            running = server.start()
        console.print(f"ready after {time.monotonic() - started:.0f} s: {running.url}/docs")
        with VeridaskClient(running.url, running.key) as client:
            plays = [prepare(client, films, scenario) for scenario in SCENARIOS]
            film(console, plays)
            with Live(board(plays), console=console, auto_refresh=False) as live:
                for play in plays:
                    for step in STEPS:
                        client.upload(play.case_id, step, play.films[step].result(), "video/mp4")
                        play.uploaded.append(step)
                        live.update(board(plays), refresh=True)
                    play.case = client.decided(play.case_id)
                    live.update(board(plays), refresh=True)
        if keep:
            console.print(
                f"kept: {copytree(folder, Path('out') / 'demo' / datetime.now(UTC).strftime('%Y%m%dT%H%M%S'))}"
            )
    return summary(console, plays)


@dataclass
class Films:
    """Orders films, each once: scenarios of one person show the same genuine document. today: dates are around it."""

    filmers: ProcessPoolExecutor
    seed: int
    today: date
    ordered: dict[tuple[str, ...], Future[bytes]] = field(default_factory=dict)

    def order(self, scenario: Scenario, step: Step, challenge: Sequence[str] = ()) -> Future[bytes]:
        """The film of a step; a face scan is one of its own, because it follows the case's challenge."""
        attack = scenario.document_attack if step in scenario.attacked else ""
        shown = (step, scenario.design, scenario.portrait, attack, scenario.name if step == "face" else "")
        if shown not in self.ordered:
            self.ordered[shown] = self.filmers.submit(
                film_step, scenario, step, challenge, seed=self.seed, today=self.today
            )
        return self.ordered[shown]


def prepare(client: VeridaskClient, films: Films, scenario: Scenario) -> Play:
    """Create the case of a scenario and order its films."""
    case = client.create("standard", client_reference_id=scenario.name)
    return Play(scenario, case.id, {step: films.order(scenario, step, case.challenge) for step in STEPS})


def film(console: Console, plays: Sequence[Play]) -> None:
    """Wait for all films, showing how many are done."""
    orders = {order for play in plays for order in play.films.values()}
    columns = (TextColumn("filming specimens"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(orders))
        for order in orders:
            order.result()
            progress.advance(bar)


def board(plays: Sequence[Play]) -> Table:
    """The live table."""
    table = Table("scenario", "uploaded", "decision", "reasons", "ms", "", title="veridask demo (synthetic specimens)")
    for play in plays:
        if play.case is None or play.case.decision is None:
            table.add_row(play.scenario.name, " ".join(play.uploaded), "", "", "", "")
            continue
        codes = list(dict.fromkeys(reason.code for reason in play.case.decision.reasons))
        waited = f"{play.case.timings.decision_ms or 0:.0f}"
        verdict = "[green]as expected[/]" if play.as_expected else f"[red]expected {play.scenario.outcome}[/]"
        outcome = play.case.decision.outcome
        table.add_row(play.scenario.name, " ".join(play.uploaded), outcome, ", ".join(codes), waited, verdict)
    return table


def summary(console: Console, plays: Sequence[Play]) -> int:
    """Say how many came out as expected and how long a person waits; gives the exit code."""
    wrong = [play for play in plays if not play.as_expected]
    waits = [play.case.timings.decision_ms or 0.0 for play in plays if play.case is not None]
    console.print(f"{len(plays) - len(wrong)} of {len(plays)} scenarios as expected")
    console.print(f"last upload to decision: median {statistics.median(waits):.0f} ms, longest {max(waits):.0f} ms")
    for play in wrong:
        found = " ".join(outcome_of(play.case)) if play.case else "no decision"
        console.print(
            f"[red]{play.scenario.name}: expected {play.scenario.outcome} {play.scenario.reason}, got {found}[/]"
        )
    return 1 if wrong else 0
