"""How the case store's database is set up, and what its errors mean.

SQLite runs in WAL mode with `synchronous=FULL`: what was committed survives a power cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.errors import SettingsError, StepTakenError, StoreUnavailableError
from service.tables import CaseRow

_BUSY_MS = 5000


@contextmanager
def unavailable_is_said() -> Iterator[None]:
    """Turn what the database says into the service's errors."""
    try:
        yield
    except IntegrityError as error:
        raise StepTakenError("another request was faster") from error
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreUnavailableError("the case store does not answer or is full") from error


def require_columns(connection: Connection) -> None:
    """Raise SettingsError for tables of an older build."""
    found = {column["name"] for column in inspect(connection).get_columns(CaseRow.__tablename__)}
    if missing := {column.name for column in CaseRow.__table__.columns} - found:
        raise SettingsError(
            f"the case store was made by another version (no column {', '.join(sorted(missing))}); "
            "give this one a data folder or a database of its own"
        )


def tune_sqlite(engine: Engine) -> None:
    """Make each connection to SQLite durable, patient, and begin its transactions as they are meant."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver thinks best
        cursor = connection.cursor()
        # secure_delete: an erased data key is overwritten, not left in a free part of its page.
        pragmas = (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
            f"busy_timeout={_BUSY_MS}",
        )
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("veridask_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def scrub(connection: Connection) -> None:
    """Make SQLite forget earlier contents of its pages: its log keeps them until it is cut. Readers at work put that
    off until the next time. PostgreSQL does the like in its own time (autovacuum, recycling of its log).
    """
    if connection.dialect.name == "sqlite":
        connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
