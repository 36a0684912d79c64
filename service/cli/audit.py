"""`veridask audit`: prove and read the audit log. Works on the case store, whether a service runs or not."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from service.cli.database import DataDir, opened
from service.lifecycle.identifiers import is_case_id
from service.store.audit import Anchor, AuditLog
from service.store.revisions import prepare

app = typer.Typer(no_args_is_help=True, help="The audit log.")

_ANCHOR = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


@app.command()
def verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="NUMBER:HASH of a line, as the service logs it (audit_head); can be repeated."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Verify that no line is missing or changed, and print the newest one as an anchor. Exits with 1 if one is."""
    anchors = [_anchor(text) for text in anchor or ()]
    newest = "none"
    with (
        _audit(data_dir) as log,
        Progress(SpinnerColumn(), TextColumn("{task.completed} lines"), console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("lines", total=None)
        for line in log.verified(anchors):
            newest = f"{line.number}:{line.hash}"
            progress.advance(task)
    sys.stdout.write(f"The log is complete. The newest line is {newest}\n")


@app.command()
def show(
    case: Annotated[str | None, typer.Option(help="Only lines of this case.")] = None,
    lines: Annotated[int, typer.Option(help="How many of the newest lines to print.", min=1, max=10_000)] = 50,
    data_dir: DataDir = None,
) -> None:
    """Print the newest lines, oldest first. This does not verify them."""
    if case is not None and not is_case_id(case):
        raise typer.BadParameter("a case id is `case_` and 26 characters")
    table = Table("line", "time", "who", "what", "case", "details")
    with _audit(data_dir) as log:
        for line in reversed(asyncio.run(log.page(lines, case_id=case))):
            entry = line.entry
            details = json.dumps(dict(entry.details)) if entry.details else ""
            moment = f"{line.at:%Y-%m-%d %H:%M:%S}"
            table.add_row(str(line.number), moment, entry.actor, entry.action, entry.case_id or "", details)
    Console(width=170).print(table)


def _anchor(text: str) -> Anchor:
    parts = _ANCHOR.fullmatch(text)
    if parts is None:
        raise typer.BadParameter(f"{text} is not of the form NUMBER:HASH")
    return Anchor(int(parts[1]), parts[2])


@contextmanager
def _audit(data_dir: Path | None) -> Iterator[AuditLog]:
    with opened(data_dir) as (database, _):
        prepare(database, "by_command")  # who reads the log changes nothing
        yield AuditLog(database)
