"""The SQL database that all stores share: engine, threads for blocking calls, transactions, and one set of errors.

The tables are in `service.store.tables`, the queries in `service.store.cases` and the other stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from service.errors import ConflictError, StoreUnavailableError


class HasThreads(Protocol):
    """A store whose methods run in threads."""

    threads: ThreadPoolExecutor


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=HasThreads)

_BUSY_MS = 5000
_CONNECTIONS = 16
"""Calls in progress at the same time. One that waits for a locked database keeps its connection for `_BUSY_MS`."""
_UPGRADE_LOCK = 0x7665726964617368
"""Key of PostgreSQL's advisory lock for changing tables. Any number that nothing else uses."""
_UPGRADE_MS = 600_000
"""How long a process waits while another one changes tables."""
_TABLE_LOCK_MS = 10_000
"""How long a table change waits for readers. Queries that arrive later wait behind it."""


def in_a_thread(
    call: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Run a method in one of the threads of its store. It runs to its end even if the caller is cancelled.

    This switches threads once for all queries of a method. With an asynchronous driver each step of each query switches
    once, and a query of one row took 3.1 ms instead of 0.8 ms.
    """

    @wraps(call)
    async def in_a_thread(store: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(store.threads, partial(call, store, *args, **kwargs)))

    return in_a_thread


class Database:
    """The database at a SQLAlchemy URL."""

    def __init__(self, url: str) -> None:
        sqlite_file = url.startswith("sqlite")
        self.engine = create_engine(url, pool_pre_ping=not sqlite_file, pool_size=_CONNECTIONS, max_overflow=0)
        self.threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="store")
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        if sqlite_file:
            _tune_sqlite(self.engine)

    async def close(self) -> None:
        """Wait for calls in progress, then close all connections."""
        await asyncio.to_thread(self.threads.shutdown)
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads. Raises StoreUnavailableError."""
        with database_errors(), self._sessions() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that writes, committed at the end. Raises StoreUnavailableError, and ConflictError if another
        writer was first.
        """
        with database_errors(), self._sessions() as session:
            # On SQLite, a transaction that reads first and writes later fails, instead of waiting, while another one
            # writes.
            session.connection(execution_options={"veridask_writes": True})
            yield session
            session.commit()

    @contextmanager
    def changing_tables(self) -> Iterator[Connection]:
        """A transaction that changes tables. Only one process has it at a time; others wait. Raises SQLAlchemy's
        errors.
        """
        with self.engine.connect() as connection:
            sqlite = connection.dialect.name == "sqlite"
            if sqlite:
                # SQLite makes some changes by recreating a table; rows that reference the old one would be deleted with
                # it.
                _execute(connection, "PRAGMA foreign_keys=OFF", f"PRAGMA busy_timeout={_UPGRADE_MS}")
            try:
                with connection.execution_options(veridask_writes=True).begin():
                    if not sqlite:
                        connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                        connection.execute(text(f"SET LOCAL lock_timeout = {_TABLE_LOCK_MS}"))
                    yield connection
                    if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                        raise RuntimeError(f"rows of {broken[0]} would refer to nothing")
            finally:
                if sqlite:
                    _execute(connection, "PRAGMA foreign_keys=ON", f"PRAGMA busy_timeout={_BUSY_MS}")


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate errors of the database into errors of the service."""
    try:
        yield
    except IntegrityError as error:
        raise ConflictError("Another request changed this first. Read it again, then repeat the request.") from error
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreUnavailableError("The case store does not respond, or is full. Try again later.") from error


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin in `_begun` below, not where the driver chooses
        cursor = connection.cursor()
        # secure_delete: an erased data key is overwritten instead of staying in the free part of its page.
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


def _execute(connection: Connection, *statements: str) -> None:
    """Execute statements outside a transaction, where alone they have an effect, with SQLite's driver."""
    for statement in statements:
        connection.connection.driver_connection.execute(statement)  # type: ignore[union-attr]


def scrub(connection: Connection) -> None:
    """Remove earlier contents of pages from SQLite's write-ahead log, which keeps them until it is truncated.

    Active readers postpone that to the next call. PostgreSQL does the same by itself, later (autovacuum, recycling of
    its log).
    """
    if connection.dialect.name == "sqlite":
        _execute(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
