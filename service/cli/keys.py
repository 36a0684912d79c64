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
    name: Annotated[str, typer.Option(help="A name for the key, shown by `veridask keys list`.")],
    scope: Annotated[list[str], typer.Option(help=f"One of {', '.join(SCOPES)}; can be repeated.")],
    days: Annotated[
        int | None, typer.Option(help="Days until the key expires; without it, the key is valid until revoked.", min=1)
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Create an API key and print it. It is shown only once."""
    if unknown := set(scope) - set(SCOPES):
        raise typer.BadParameter(f"unknown scope {', '.join(sorted(unknown))}; scopes are {', '.join(SCOPES)}")
    if not name.isprintable() or not 0 < len(name) <= 100:
        raise typer.BadParameter("a name must have 1 to 100 printable characters")
    scopes: list[Scope] = [known for known in SCOPES if known in scope]
    now = datetime.now(UTC)
    with _keys(data_dir) as keys:
        key, text = keys.create(name, scopes, now, now + timedelta(days=days) if days else None, by=person())
    sys.stderr.write(f"Created {key.id} with the scopes {', '.join(key.scopes)}. The key is shown only once:\n")
    sys.stdout.write(f"{text}\n")


@app.command("list")
def list_command(data_dir: DataDir = None) -> None:
    """List all API keys. The keys themselves are not stored and cannot be shown."""
    table = Table("id", "name", "scopes", "created", "state")
    with _keys(data_dir) as keys:
        for key in keys.all():
            table.add_row(key.id, key.name, ", ".join(key.scopes), f"{key.created_at:%Y-%m-%d}", _state(key))
    Console(width=140).print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key: `key_` and 26 characters.")], data_dir: DataDir = None
) -> None:
    """Revoke an API key. All API processes refuse it within five seconds."""
    with _keys(data_dir) as keys:
        keys.revoke(key_id, datetime.now(UTC), by=person())
    sys.stderr.write(f"Revoked {key_id}.\n")


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
