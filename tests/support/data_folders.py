"""Services and settings on a data folder, with its case store where `--case-store` says: SQLite in the folder, or for
each folder a PostgreSQL database of its own. Tests that use these, or the session's server, run on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, select

from service.server.local import LocalServer
from service.settings.settings import Settings
from tests.support.postgres import new_database

_databases: dict[Path, str] = {}
_server: list[Path] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--case-store",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="where services keep their cases; with postgresql only tests that start one or open its store are run",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL, only what has to do with it and does not take long for another reason: the rest ran on SQLite."""
    if config.getoption("case_store") == "postgresql":
        concerned = {id(item) for item in items if _concerns(item)}
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in concerned])
        items[:] = [item for item in items if id(item) in concerned]


def _concerns(item: pytest.Item) -> bool:
    used = {*getattr(item, "fixturenames", ()), *vars(getattr(item, "module", item))}
    return not used.isdisjoint({"server", "settings_in", "server_in"}) and item.get_closest_marker("vision") is None


@pytest.fixture(scope="session", autouse=True)
def case_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """The PostgreSQL server for the functions below, where it is wanted."""
    if request.config.getoption("case_store") == "postgresql":
        _server.append(request.getfixturevalue("postgres"))
    yield
    _server.clear()
    _databases.clear()


def database_url(folder: Path) -> str:
    """As in the settings: empty for SQLite in the folder."""
    if not _server:
        return ""
    if folder not in _databases:
        _databases[folder] = new_database(_server[0])
    return _databases[folder]


def settings_in(folder: Path, **more: Any) -> Settings:
    return Settings(data_dir=folder, database_url=database_url(folder), **more)


def server_in(folder: Path, scheduler: str, **more: Any) -> LocalServer:
    return LocalServer(folder, scheduler, database_url=database_url(folder), **more)


def everything_in(folder: Path) -> bytes:
    """What all rows of the folder's case store say, for a search."""
    engine, tables = create_engine(settings_in(folder).store_url), MetaData()
    try:
        with engine.connect() as connection:
            tables.reflect(connection)
            rows = [row for table in tables.sorted_tables for row in connection.execute(select(table))]
    finally:
        engine.dispose()
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
