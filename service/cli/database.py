"""`veridask db`: the revision of the case store's tables, and the way to the newest one. No database URL is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from models.errors import VeridaskError
from service.settings.settings import Settings
from service.store import revisions
from service.store.database import Database

app = typer.Typer(no_args_is_help=True, help="The case store's tables.")

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the case store.")]


@app.command()
def upgrade(
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL of the upgrade and change nothing.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Upgrade the tables to the newest revision. Make a backup first: there is no downgrade."""
    with opened(data_dir) as (database, _):
        before = revisions.current(database)
        if sql:
            if before != revisions.newest():
                sys.stdout.write(revisions.upgrade_sql(before, database.engine.dialect.name))
            return
        before = revisions.upgrade(database)
    sys.stderr.write(f"Upgraded from revision {before} to {revisions.newest()}.\n")


@app.command()
def current(data_dir: DataDir = None) -> None:
    """Print the revision of the tables. Exits with 1 if it is not the newest revision of this release."""
    with opened(data_dir) as (database, _):
        revision = revisions.current(database)
    newest = revisions.newest()
    sys.stdout.write(f"{revision}\n")
    if revision != newest:
        sys.stderr.write(f"This release needs revision {newest}. Run `veridask db upgrade`.\n")
        raise typer.Exit(1)


@contextmanager
def opened(data_dir: Path | None) -> Iterator[tuple[Database, Settings]]:
    """The case store's database for a command, which ends with 1 and a message where something is wrong with it."""
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.store_url)
    try:
        yield database, settings
    except VeridaskError as error:
        sys.stderr.write(f"{error.detail}\n")
        raise typer.Exit(1) from error
    finally:
        database.engine.dispose()
