"""The SQL database that stores share: its engine, the threads that calls run in, and transactions that say in one way
when it is away. What is in it: `service.store.tables`; what is asked of it: `service.store.cases` and its like.
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
    """Something whose calls run in threads."""

    threads: ThreadPoolExecutor


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=HasThreads)

_BUSY_MS = 5000
_CONNECTIONS = 16
"""Calls under way at once. One that waits for a locked database holds its own for `_BUSY_MS`."""
_UPGRADE_LOCK = 0x7665726964617368
"""Key of PostgreSQL's advisory lock for changing tables; any number that nobody else takes."""
_UPGRADE_MS = 600_000
"""How long a process waits for another one that changes tables."""
_TABLE_LOCK_MS = 10_000
"""How long a change waits for a table that somebody reads: whoever comes after it waits as well."""


def in_a_thread(
    call: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """A call that runs in one of its store's threads, and to its end although whoever waits for it goes away.

    One hop for all its queries: with an asynchronous driver each step of each query is a hop of its own, which cost a
    query of one row 3.1 ms in place of 0.8.
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
        """Wait for what is under way, and give back all connections."""
        await asyncio.to_thread(self.threads.shutdown)
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that reads. Raises StoreUnavailableError."""
        with database_errors(), self._sessions() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that writes, and is committed at the end. Raises StoreUnavailableError, and ConflictError
        where another writer was faster.
        """
        with database_errors(), self._sessions() as session:
            # A transaction that reads first and writes later would fail instead of waiting when another one writes.
            session.connection(execution_options={"veridask_writes": True})
            yield session
            session.commit()

    @contextmanager
    def changing_tables(self) -> Iterator[Connection]:
        """A transaction that changes tables: one process at a time has it, others wait. Raises what SQLAlchemy does."""
        with self.engine.connect() as connection:
            sqlite = connection.dialect.name == "sqlite"
            if sqlite:
                # SQLite changes some things by making a table anew: rows that refer to the old one would go with it.
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
    """Turn what a database raises into errors of the service."""
    try:
        yield
    except IntegrityError as error:
        raise ConflictError("Another request changed this first. Read it again, then repeat the request.") from error
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreUnavailableError("The case store does not respond, or is full. Try again later.") from error


def _tune_sqlite(engine: Engine) -> None:
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


def _execute(connection: Connection, *statements: str) -> None:
    """Have SQLite's driver execute what has no effect in a transaction."""
    for statement in statements:
        connection.connection.driver_connection.execute(statement)  # type: ignore[union-attr]


def scrub(connection: Connection) -> None:
    """Make SQLite forget earlier contents of its pages: its log keeps them until it is cut. Readers at work put that
    off until the next time. PostgreSQL does the like in its own time (autovacuum, recycling of its log).
    """
    if connection.dialect.name == "sqlite":
        _execute(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
