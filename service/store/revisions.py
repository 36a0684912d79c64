"""The revision of the tables of a case store, and the upgrade to the newest one that this build knows.

alembic runs all missing revisions in one transaction. Other processes that start at the same time wait, and then find
nothing to do. Tables that are newer, unknown, or not created by veridask are refused. Downgrades are not supported.

The revisions themselves are in `service.store.migrations`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from service.errors import StoreRevisionError
from service.store import migrations
from service.store.database import Database, database_errors
from service.vocabulary import Migrations

EMPTY = "none"
"""A database without tables of veridask."""
UNNUMBERED = "unnumbered"
"""A database with the tables of the first revision but no number: created before revisions existed."""
_FIRST = "0001"
_FOLDER = Path(migrations.__file__).parent
_ONE_AT_A_TIME = threading.Lock()
"""alembic's context is global to the process, not to a thread."""


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_FOLDER))


def newest() -> str:
    """The newest revision that this build knows."""
    return str(_scripts().get_current_head())


def revision_of(connection: Connection) -> str:
    """The revision of a database, or EMPTY, or UNNUMBERED.

    Raises StoreRevisionError for a revision that this build does not know, and for tables that have no revision and
    differ from the first one.
    """
    found = MigrationContext.configure(connection).get_current_heads()
    if not found:
        return _unnumbered(connection)
    known = {script.revision for script in _scripts().walk_revisions()}
    if len(found) == 1 and found[0] in known:
        return found[0]
    number = ", ".join(found)
    if number.isdecimal() and int(number) > int(newest()):
        raise StoreRevisionError(
            f"A newer release brought the case store to revision {number}; this one supports up to {newest()}. "
            "Run the newer release."
        )
    raise StoreRevisionError(f"The case store has revision {number}, which no release of veridask makes.")


def _unnumbered(connection: Connection) -> str:
    first: MetaData = _scripts().get_revision(_FIRST).module.TABLES
    if not first.tables.keys() & set(inspect(connection).get_table_names()):
        return EMPTY

    def is_known_table(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name in first.tables

    context = MigrationContext.configure(connection, opts={"include_name": is_known_table})
    if compare_metadata(context, first):
        raise StoreRevisionError(
            "the case store was made by a build without revisions, and not by the last one of them; give this one a "
            "data folder or a database of its own"
        )
    return UNNUMBERED


def prepare(database: Database, how: Migrations) -> str:
    """Upgrade the tables to the newest revision, if `how` allows it. Returns the revision that they had.

    how: with `by_command`, tables of an older revision are refused instead. Blocks. Raises StoreRevisionError,
    StoreUnavailableError.
    """
    revision = current(database)
    if revision == newest():
        return revision
    if how == "by_command":
        raise StoreRevisionError(
            f"the case store is of revision {revision}, this build wants {newest()}: run `veridask db upgrade`, or have"
            " the SQL run that `veridask db upgrade --sql` prints"
        )
    return upgrade(database)


def current(database: Database) -> str:
    """The revision of a database, as `revision_of`. Blocks. Raises StoreRevisionError, StoreUnavailableError."""
    with database_errors(), database.engine.connect() as connection:
        return revision_of(connection)


def upgrade(database: Database, to: str = "head") -> str:
    """Upgrade the tables to a newer revision. Returns the one that they had.

    Blocks, also while another process upgrades. Raises StoreRevisionError, StoreUnavailableError; then nothing was
    changed.
    """
    with _ONE_AT_A_TIME, database_errors(), refused_table_changes(), database.changing_tables() as connection:
        before = revision_of(connection)
        config = _config(connection=connection)
        if before == UNNUMBERED:
            command.stamp(config, _FIRST)
        command.upgrade(config, to)
    return before


def upgrade_sql(before: str, dialect: str) -> str:
    """The SQL that `upgrade` would run on a database with the revision `before`. dialect: postgresql or sqlite."""
    text = io.StringIO()
    with _ONE_AT_A_TIME:
        config = _config(text, dialect=dialect)
        if before == UNNUMBERED:
            command.stamp(config, _FIRST, sql=True)
        start = {EMPTY: "base", UNNUMBERED: _FIRST}.get(before, before)
        command.upgrade(config, f"{start}:head", sql=True)
    return text.getvalue()


def _config(output: io.StringIO | None = None, **attributes: Any) -> Config:
    """alembic's settings without a file. They contain no database URL and no logging setup."""
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes.update(attributes)
    return config


@contextmanager
def refused_table_changes() -> Iterator[None]:
    """Raise StoreRevisionError if the database refuses a change; let other errors pass, such as a lost connection."""
    try:
        yield
    except DBAPIError as error:
        is_refused = isinstance(error, IntegrityError | ProgrammingError)
        if not is_refused and getattr(error.orig, "sqlite_errorname", "") != "SQLITE_ERROR":
            raise
        reason = str(error.orig).partition("\n")[0]
        raise StoreRevisionError(f"The tables of the case store cannot be changed: {reason}") from error
