"""The command line: `veridask serve`, `verify`, `demo`, `doctor`. Settings come from `VERIDASK_…`; options override."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from graphs.records import Step
from models.errors import VeridaskError
from service.client import VeridaskClient
from service.schemas import CaseView
from service.server import LocalServer, serve
from service.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Automatic identity verification.")
console = Console()

_COLOURS = {"approved": "green", "declined": "red", "review": "yellow", "resubmission_requested": "yellow"}


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 0 takes a free one.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Join this Dask cluster instead of starting one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the case store and the evidence.")] = None,
) -> None:
    """Start the API and, unless a scheduler is named, a cluster on this machine."""
    given: dict[str, Any] = {"host": host, "port": port, "scheduler": scheduler, "data_dir": data_dir}
    try:
        serve(Settings(**{name: value for name, value in given.items() if value is not None}))
    except ValidationError as error:
        for problem in error.errors():
            sys.stderr.write(f"VERIDASK_{'_'.join(str(p) for p in problem['loc']).upper()}: {problem['msg']}\n")
        raise typer.Exit(2) from error
    except VeridaskError as error:
        sys.stderr.write(f"cannot serve: {error.detail}\n")
        raise typer.Exit(1) from error


@app.command()
def verify(
    front: Annotated[Path | None, typer.Option(help="Front of the document.", exists=True, dir_okay=False)] = None,
    back: Annotated[Path | None, typer.Option(help="Back of the document.", exists=True, dir_okay=False)] = None,
    face: Annotated[Path | None, typer.Option(help="Face scan.", exists=True, dir_okay=False)] = None,
    profile: Annotated[str, typer.Option(help="Profile; `recorded` asks for no movements.")] = "recorded",
    url: Annotated[str | None, typer.Option(help="A running service; without it one is started for this.")] = None,
    timeout: Annotated[float, typer.Option(help="Longest wait for the decision in seconds.")] = 300.0,
) -> None:
    """Verify a person's own files and print the decision with its reasons."""
    given: dict[Step, Path | None] = {"front": front, "back": back, "face": face}
    media = {step: path for step, path in given.items() if path is not None}
    try:
        with _service(url) as address, VeridaskClient(address) as client:
            case = client.create(profile)
            missing = [step.step for step in case.steps if step.step not in media]
            if missing:
                client.cancel(case.id)
                raise typer.BadParameter(f"profile {profile} also wants {', '.join('--' + name for name in missing)}")
            if case.challenge:
                console.print(f"The face scan must show, in this order: [bold]{', '.join(case.challenge)}[/bold]")
            for step in case.steps:
                client.upload(case.id, step.step, media[step.step])
            _show(client.wait(case.id, timeout))
    except (VeridaskError, TimeoutError, OSError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error


@contextlib.contextmanager
def _service(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="veridask-") as folder, LocalServer(Path(folder)) as server:
        with console.status("Starting a service for this case"):
            running = server.start()
        yield running.url


def _show(case: CaseView) -> None:
    table = Table("check", "result", "reasons", "ms", title=case.id)
    for check in case.checks:
        reasons = ", ".join(reason.code for reason in check.reasons)
        table.add_row(check.name, check.result, reasons, f"{check.duration_ms or 0:.0f}")
    console.print(table)
    decision = case.decision
    if decision is None:  # a retake was asked for from the quality of one upload
        for step in case.steps:
            for reason in step.reasons:
                console.print(f"{step.step}: {reason.message} ({reason.code})")
        console.print("[yellow]Film again what is named above.[/yellow]")
        return
    waited = case.timings.decision_ms or 0.0
    console.print(f"[{_COLOURS[decision.outcome]}]{decision.outcome}[/] {waited:.0f} ms after the last upload")
    for reason in decision.reasons:
        console.print(f"  {reason.message} ({reason.code}, {reason.check})")


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the specimens.")] = 7100,
    keep: Annotated[bool, typer.Option(help="Keep the data folder of the run.")] = False,
) -> None:
    """Run specimen documents and attacks through the whole system; exit code 0 if all went as expected."""
    from service.demo import demo as run_demo

    raise typer.Exit(run_demo(seed, keep))


@app.command()
def doctor() -> None:
    """Say what is missing or too slow on this machine."""
    from service.doctor import doctor as run_doctor

    raise typer.Exit(run_doctor(Settings().data_dir.resolve()))


if __name__ == "__main__":
    app()
