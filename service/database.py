"""How the case store's database is opened.

SQLite runs in WAL mode with `synchronous=FULL`: what was committed survives a power cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.errors import SettingsError, StepTakenError, StoreUnavailableError
from service.tables import CaseRow

_BUSY_MS = 5000
CONNECTIONS = 16
"""Calls under way at once. One that waits for a locked database holds its own for `_BUSY_MS`."""


def engine_of(url: str) -> Engine:
    """The database at a SQLAlchemy URL."""
    sqlite_file = url.startswith("sqlite")
    engine = create_engine(url, pool_pre_ping=not sqlite_file, pool_size=CONNECTIONS, max_overflow=0)
    if sqlite_file:
        _tune_sqlite(engine)
    return engine


@contextmanager
def unavailable_is_said() -> Iterator[None]:
    """Errors of the database as those of the service: StepTakenError for two writers, StoreUnavailableError else."""
    try:
        yield
    except IntegrityError as error:
        raise StepTakenError("another request was faster") from error
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreUnavailableError("the case store does not answer or is full") from error


def require_columns(connection: Connection) -> None:
    """Raise SettingsError for tables of an older build: nothing changes tables yet."""
    found = {column["name"] for column in inspect(connection).get_columns(CaseRow.__tablename__)}
    if missing := {column.name for column in CaseRow.__table__.columns} - found:
        raise SettingsError(
            f"the case store was made by another version (no column {', '.join(sorted(missing))}); "
            "give this one a data folder or a database of its own"
        )


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver thinks best
        cursor = connection.cursor()
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}")
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("veridask_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
