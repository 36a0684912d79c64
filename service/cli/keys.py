"""`veridask keys`: make, list and revoke API keys. Works on the case store, whether a service runs or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.database import DataDir, opened
from service.store.api_keys import SCOPES, ApiKey, ApiKeys
from service.store.audit import person
from service.store.revisions import prepare
from service.vocabulary import Scope

app = typer.Typer(no_args_is_help=True, help="API keys.")


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Who uses it, for the list.")],
    scope: Annotated[list[str], typer.Option(help=f"One of {', '.join(SCOPES)}; repeat it.")],
    days: Annotated[int | None, typer.Option(help="Good for so many days; without it until revoked.", min=1)] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, this once."""
    if unknown := set(scope) - set(SCOPES):
        raise typer.BadParameter(f"no scope {', '.join(sorted(unknown))}; there are {', '.join(SCOPES)}")
    if not name.isprintable() or not 0 < len(name) <= 100:
        raise typer.BadParameter("a name has 1 to 100 letters")
    scopes: list[Scope] = [known for known in SCOPES if known in scope]
    now = datetime.now(UTC)
    with _keys(data_dir) as keys:
        key, text = keys.create(name, scopes, now, now + timedelta(days=days) if days else None, by=person())
    sys.stderr.write(f"{key.id} may {', '.join(key.scopes)}. It is shown this once:\n")
    sys.stdout.write(f"{text}\n")


@app.command("list")
def list_command(data_dir: DataDir = None) -> None:
    """List all keys; what they open is not kept and cannot be shown."""
    table = Table("id", "name", "scopes", "created", "state")
    with _keys(data_dir) as keys:
        for key in keys.all():
            table.add_row(key.id, key.name, ", ".join(key.scopes), f"{key.created_at:%Y-%m-%d}", _state(key))
    Console(width=140).print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="`key_` and 26 characters.")], data_dir: DataDir = None) -> None:
    """End a key for good, within five seconds everywhere."""
    with _keys(data_dir) as keys:
        keys.revoke(key_id, datetime.now(UTC), by=person())
    sys.stderr.write(f"{key_id} is revoked\n")


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if not key.is_good(datetime.now(UTC)):
        return "expired"
    return f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "good"


@contextmanager
def _keys(data_dir: Path | None) -> Iterator[ApiKeys]:
    with opened(data_dir) as (database, settings):
        prepare(database, settings.migrations)  # a command may come before the service's first start
        yield ApiKeys(database)
