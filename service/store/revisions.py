"""Which revision the tables of a case store have, and how they come to the newest one that this build knows.

The revisions themselves are in `service.store.migrations`, alembic runs them: all that are missing in one transaction,
while other processes that start at the same time wait and then find nothing to do. What is newer, unknown or was made
otherwise is refused. There is no way back to an older revision.
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
"""A database without tables of ours."""
UNNUMBERED = "unnumbered"
"""One with the tables of the first revision, made when there were no revisions yet."""
_FIRST = "0001"
_FOLDER = Path(migrations.__file__).parent
_ONE_AT_A_TIME = threading.Lock()
"""What alembic's revisions work on belongs to the process, not to a thread."""


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_FOLDER))


def newest() -> str:
    """The newest revision that this build knows."""
    return str(_scripts().get_current_head())


def revision_of(connection: Connection) -> str:
    """The revision of a database, EMPTY or UNNUMBERED. Raises StoreRevisionError for one that this build does not know,
    and for tables without a revision that are not those of the first.
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

    def is_ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name in first.tables

    context = MigrationContext.configure(connection, opts={"include_name": is_ours})
    if compare_metadata(context, first):
        raise StoreRevisionError(
            "the case store was made by a build without revisions, and not by the last one of them; give this one a "
            "data folder or a database of its own"
        )
    return UNNUMBERED


def prepare(database: Database, how: Migrations) -> str:
    """Have the tables be of the newest revision: bring them there, or refuse where that is done by command alone. Gives
    the revision that they had.

    Blocks. Raises StoreRevisionError, StoreUnavailableError.
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
    """As `revision_of`. Blocks. Raises StoreRevisionError, StoreUnavailableError."""
    with database_errors(), database.engine.connect() as connection:
        return revision_of(connection)


def upgrade(database: Database, to: str = "head") -> str:
    """Bring the tables to a revision that is newer than theirs; gives the one that they had.

    Blocks, also while another process does it. Raises StoreRevisionError, StoreUnavailableError; nothing was changed
    then.
    """
    with _ONE_AT_A_TIME, database_errors(), refused_table_changes(), database.changing_tables() as connection:
        before = revision_of(connection)
        config = _config(connection=connection)
        if before == UNNUMBERED:
            command.stamp(config, _FIRST)
        command.upgrade(config, to)
    return before


def upgrade_sql(before: str, dialect: str) -> str:
    """The SQL that `upgrade` would run on a database of the revision `before`. dialect: postgresql or sqlite."""
    text = io.StringIO()
    with _ONE_AT_A_TIME:
        config = _config(text, dialect=dialect)
        if before == UNNUMBERED:
            command.stamp(config, _FIRST, sql=True)
        start = {EMPTY: "base", UNNUMBERED: _FIRST}.get(before, before)
        command.upgrade(config, f"{start}:head", sql=True)
    return text.getvalue()


def _config(output: io.StringIO | None = None, **attributes: Any) -> Config:
    """alembic's settings without a file: no database URL is in them, and nothing about logging."""
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes.update(attributes)
    return config


@contextmanager
def refused_table_changes() -> Iterator[None]:
    """Tell what a database refuses to change apart from one that is away."""
    try:
        yield
    except DBAPIError as error:
        wrong = isinstance(error, IntegrityError | ProgrammingError)
        if not wrong and getattr(error.orig, "sqlite_errorname", "") != "SQLITE_ERROR":
            raise
        reason = str(error.orig).partition("\n")[0]
        raise StoreRevisionError(f"the tables of the case store cannot be changed: {reason}") from error
