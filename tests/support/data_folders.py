"""Services and settings on a data folder, on the kind of case store given by `--case-store`.

It is SQLite in the folder, or a separate PostgreSQL database for each folder. Tests that use these, or the session's
server, run on both.
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
    """With PostgreSQL, run only tests that concern it and are not slow for another reason; the rest ran on SQLite."""
    if config.getoption("case_store") == "postgresql":
        concerned = {id(item) for item in items if _concerns(item)}
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in concerned])
        items[:] = [item for item in items if id(item) in concerned]


def _concerns(item: pytest.Item) -> bool:
    used = {*getattr(item, "fixturenames", ()), *vars(getattr(item, "module", item))}
    return not used.isdisjoint({"server", "settings_in", "server_in"}) and item.get_closest_marker("vision") is None


@pytest.fixture(scope="session", autouse=True)
def case_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start the PostgreSQL server for the functions below, if `--case-store` asks for it."""
    if request.config.getoption("case_store") == "postgresql":
        _server.append(request.getfixturevalue("postgres"))
    yield
    _server.clear()
    _databases.clear()


def database_url(folder: Path) -> str:
    """The database URL for the settings; empty for SQLite in the folder."""
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
    """The content of all rows of the folder's case store as bytes, to search in."""
    engine, tables = create_engine(settings_in(folder).store_url), MetaData()
    try:
        with engine.connect() as connection:
            tables.reflect(connection)
            rows = [row for table in tables.sorted_tables for row in connection.execute(select(table))]
    finally:
        engine.dispose()
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
