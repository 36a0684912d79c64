"""Revisions of the case store's tables: they make what the code wants, keep what is there, one process at a time."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from setuptools import find_packages
from sqlalchemy import Column, Integer, MetaData, Table, inspect, select, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from graphs.records import Step
from service.cli.main import app
from service.errors import StoreRevisionError, StoreUnavailableError
from service.lifecycle.transitions import accept, decide
from service.store import migrations
from service.store.cases import CaseStore
from service.store.database import Database
from service.store.revisions import EMPTY, UNNUMBERED, current, newest, prepare, upgrade
from service.store.tables import Base
from tests.support.case_stores import KEYS, NOW, VERDICT, created
from tests.support.places import ROOT

CLI = CliRunner()


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = Database(store_url)
    yield database
    database.engine.dispose()


def run(database: Database, *statements: str) -> None:
    with database.engine.connect().execution_options(veridask_writes=True) as connection, connection.begin():
        for statement in statements:
            connection.execute(text(statement))


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that is there."""
    with database.engine.connect() as connection:
        there = inspect(connection).get_table_names()
        return {
            table.name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
            for table in Base.metadata.sorted_tables
            if table.name in there
        }


def differences(database: Database, wanted: MetaData) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return list(compare_metadata(context, wanted))


def without_number(database: Database) -> None:
    """As the builds before revisions left a database."""
    upgrade(database, "0001")
    run(database, "DROP TABLE alembic_version")


def test_the_revisions_make_the_tables_that_the_code_wants(database: Database) -> None:
    assert upgrade(database) == EMPTY
    assert differences(database, Base.metadata) == []
    more = MetaData()
    for table in Base.metadata.tables.values():
        table.to_metadata(more)
    more.tables["cases"].append_column(Column("hair", Integer))
    Table("pets", more, Column("id", Integer, primary_key=True))
    assert len(differences(database, more)) == 2, "a table or column without a revision is found"


def test_revisions_are_numbered_in_one_line_and_packed() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    numbers = [script.revision for script in scripts.walk_revisions()]
    assert numbers == [f"{number:04}" for number in range(len(numbers), 0, -1)]
    packages = {Path(script.path).parent.relative_to(ROOT) for script in scripts.walk_revisions()}
    assert packages == {Path("service/store/migrations/versions")}
    assert {"service.store.migrations", "service.store.migrations.versions"} <= set(find_packages(str(ROOT)))


async def test_what_an_older_store_holds_is_there_after_the_upgrade(store_url: str, database: Database) -> None:
    """Made by the tables before revisions, with the code of now; the head of its log as the first line made it then.
    Tables of later revisions are made by these, and empty.
    """
    without_number(database)
    run(database, "INSERT INTO audit_head (id, number, hash) VALUES (1, 0, '" + "0" * 64 + "')")
    store = CaseStore(store_url, lambda _: None, KEYS)
    await store.start()
    try:
        case = await created(store)
        attempts: dict[Step, int] = {"front": 1, "face": 1}
        for step in attempts:
            await store.change(case.id, lambda now, s=step: accept(now, s, NOW, "r"))  # type: ignore[misc]
        await store.change(case.id, lambda now: decide(now, attempts, VERDICT, NOW))
        run(database, "DROP TABLE shadows", "DROP TABLE alembic_version")
        before, rows = await store.get(case.id), contents(database)
        assert current(database) == UNNUMBERED
        assert prepare(database, "at_start") == UNNUMBERED
        assert current(database) == newest()
        assert contents(database) == {**rows, "shadows": []}
        assert {name for name, found in rows.items() if found} >= {"cases", "events", "audit", "audit_head"}
        assert await store.get(case.id) == before
        assert len(list(store.audit.verified())) == 4
        with pytest.raises(DBAPIError, match="append-only"):
            run(database, "DELETE FROM audit")
    finally:
        await store.close()


def test_a_store_without_a_line_in_its_log_gets_the_head(database: Database) -> None:
    without_number(database)
    assert contents(database)["audit_head"] == []
    upgrade(database)
    assert contents(database)["audit_head"] == [(1, 0, "0" * 64)]


def test_tables_of_another_build_without_revisions_are_refused(database: Database) -> None:
    without_number(database)
    run(database, "ALTER TABLE cases DROP COLUMN erased_at")
    with pytest.raises(StoreRevisionError, match="without revisions"):
        upgrade(database)
    with pytest.raises(StoreRevisionError, match="without revisions"):
        prepare(database, "at_start")


def test_other_tables_in_the_database_are_left_alone(database: Database) -> None:
    run(database, "CREATE TABLE pets (id INTEGER PRIMARY KEY)")
    without_number(database)
    assert current(database) == UNNUMBERED
    assert prepare(database, "at_start") == UNNUMBERED
    run(database, "INSERT INTO pets (id) VALUES (1)")


@pytest.mark.parametrize(
    ("number", "message"),
    [("0999", "newer release"), ("cafe", "no release"), ("1", "no release"), ("0000", "no release")],
)
async def test_a_newer_or_unknown_revision_refuses_to_start(
    store_url: str, database: Database, number: str, message: str
) -> None:
    upgrade(database)
    before = contents(database)
    run(database, f"UPDATE alembic_version SET version_num = '{number}'")  # noqa: S608
    store = CaseStore(store_url, lambda _: None, KEYS)
    with pytest.raises(StoreRevisionError, match=message):
        await store.start()
    await store.close()
    with pytest.raises(StoreRevisionError, match=number):
        upgrade(database)
    assert contents(database) == before


def test_where_tables_are_changed_by_command_alone_no_start_does(database: Database) -> None:
    with pytest.raises(StoreRevisionError, match=r"revision none.*veridask db upgrade"):
        prepare(database, "by_command")
    assert current(database) == EMPTY
    upgrade(database, "0001")
    with pytest.raises(StoreRevisionError, match="revision 0001"):
        prepare(database, "by_command")
    upgrade(database)
    assert prepare(database, "by_command") == newest()


def test_a_revision_that_fails_changes_nothing(database: Database) -> None:
    """The name of an index that somebody else's table has taken: half of the tables are made by then."""
    run(database, "CREATE TABLE pets (id INTEGER)", "CREATE INDEX webhook_deliveries_log ON pets (id)")
    with pytest.raises(StoreRevisionError, match=r"cannot be changed.*webhook_deliveries_log"):
        upgrade(database)
    with database.engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["pets"]
    run(database, "DROP TABLE pets")
    assert upgrade(database) == EMPTY


CHILD = """
import sys
from service.store import revisions
from service.store.database import Database
database = Database(sys.argv[1])
print("begins", flush=True)
print(revisions.upgrade(database))
"""


def test_processes_that_start_at_once_change_the_tables_once(store_url: str, database: Database) -> None:
    """They wait while this one has the lock; then one of them makes the tables, and the other finds them."""
    command = [sys.executable, "-c", CHILD, store_url]
    with ExitStack() as stack:
        with database.changing_tables():
            started = [
                stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
                for _ in range(2)
            ]
            assert [process.stdout.readline() for process in started if process.stdout] == ["begins\n"] * 2
            time.sleep(0.5)
            assert [process.poll() for process in started] == [None] * 2
        told = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 2
    assert sorted(told) == sorted([f"{newest()}\n", f"{EMPTY}\n"])
    assert differences(database, Base.metadata) == []


def test_threads_that_start_at_once_change_the_tables_once(store_url: str) -> None:
    """alembic keeps what it works on for the whole process: stores that started in threads met in it."""
    failed: list[BaseException] = []

    def start() -> None:
        database = Database(store_url)
        try:
            prepare(database, "at_start")
        except BaseException as error:
            failed.append(error)
        finally:
            database.engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_rows_that_refer_to_a_table_stay_when_sqlite_makes_it_anew(tmp_path: Path) -> None:
    """Dropping the old one deletes them where foreign keys are on, as they are for everything else."""
    database = Database(f"sqlite:///{tmp_path / 'cases.sqlite'}")
    upgrade(database)
    run(database, "CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    run(database, "CREATE TABLE children (parent INTEGER REFERENCES parents (id) ON DELETE CASCADE)")
    run(database, "INSERT INTO parents VALUES (1)", "INSERT INTO children VALUES (1)")
    with database.changing_tables() as connection:
        connection.execute(text("CREATE TABLE parents_new (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO parents_new SELECT id FROM parents"))
        connection.execute(text("DROP TABLE parents"))
        connection.execute(text("ALTER TABLE parents_new RENAME TO parents"))
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT parent FROM children")).all() == [(1,)]
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    with pytest.raises(RuntimeError, match="children"), database.changing_tables() as connection:
        connection.execute(text("DELETE FROM parents"))
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM parents")).all() == [(1,)]
    database.engine.dispose()


def test_a_change_does_not_wait_for_ever_behind_a_reader(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes after the change waits behind it: a backup that reads for an hour would stop the service."""
    monkeypatch.setattr("service.store.database._TABLE_LOCK_MS", 200)
    database = Database(postgres_database)
    upgrade(database, "0001")
    with database.engine.connect() as reader:
        reader.execute(text("LOCK TABLE audit_head IN EXCLUSIVE MODE"))
        with pytest.raises(StoreUnavailableError):
            upgrade(database)
    assert upgrade(database) == "0001"
    database.engine.dispose()


def test_a_role_that_may_not_change_tables_is_told_so(postgres_database: str) -> None:
    owner = Database(postgres_database)
    run(owner, "CREATE ROLE reader_of_cases LOGIN", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    run(owner, "GRANT USAGE ON SCHEMA public TO reader_of_cases")
    limited = Database(postgres_database.replace("//postgres@", "//reader_of_cases:hunter2@"))
    with pytest.raises(StoreRevisionError, match="permission denied") as refused:
        prepare(limited, "at_start")
    assert "hunter2" not in str(refused.value)
    upgrade(owner)
    run(owner, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_of_cases")
    assert prepare(limited, "by_command") == newest()
    limited.engine.dispose()
    run(owner, "DROP OWNED BY reader_of_cases", "DROP ROLE reader_of_cases")
    owner.engine.dispose()


def test_logging_is_left_as_it_is(database: Database) -> None:
    """alembic's usual environment configures logging from its file, and silences all loggers that are there."""
    ours, root = logging.getLogger("workers"), logging.getLogger()
    before = (root.level, list(root.handlers), ours.disabled, ours.level)
    upgrade(database)
    assert (root.level, list(root.handlers), ours.disabled, ours.level) == before


@pytest.mark.parametrize("start", [EMPTY, UNNUMBERED, "0001"])
def test_the_printed_sql_does_the_same(database: Database, store_url: str, start: str) -> None:
    if start == UNNUMBERED:
        without_number(database)
    elif start != EMPTY:
        upgrade(database, start)
    url = store_url.replace("//postgres@", "//postgres:hunter2@")
    environment = {"VERIDASK_DATABASE_URL": url}
    printed = CLI.invoke(app, ["db", "upgrade", "--sql"], env=environment)
    assert printed.exit_code == 0, printed.output
    assert current(database) == start, "printing changes nothing"
    assert "hunter2" not in printed.output
    assert ("CREATE TABLE cases" in printed.stdout) == (start == EMPTY)
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        if store_url.startswith("sqlite"):
            driver.executescript(printed.stdout)
        else:
            driver.autocommit = True
            driver.execute(printed.stdout)
    assert current(database) == newest()
    assert differences(database, Base.metadata) == []
    assert CLI.invoke(app, ["db", "upgrade", "--sql"], env=environment).stdout == ""


def test_the_command_says_and_changes_the_revision(database: Database, store_url: str) -> None:
    environment = {"VERIDASK_DATABASE_URL": store_url.replace("//postgres@", "//postgres:hunter2@")}
    before = CLI.invoke(app, ["db", "current"], env=environment)
    assert (before.exit_code, before.stdout) == (1, "none\n")
    refused = CLI.invoke(app, ["keys", "list"], env={**environment, "VERIDASK_MIGRATIONS": "by_command"})
    assert (refused.exit_code, "veridask db upgrade" in refused.stderr) == (1, True)
    assert CLI.invoke(app, ["audit", "verify"], env=environment).exit_code == 1
    done = CLI.invoke(app, ["db", "upgrade"], env=environment)
    assert (done.exit_code, done.stderr) == (0, f"Upgraded from revision none to {newest()}.\n")
    after = CLI.invoke(app, ["db", "current"], env=environment)
    assert (after.exit_code, after.stdout) == (0, f"{newest()}\n")
    assert CLI.invoke(app, ["audit", "verify"], env=environment).exit_code == 0
    run(database, "UPDATE alembic_version SET version_num = '0999'")
    newer = CLI.invoke(app, ["db", "upgrade"], env=environment)
    assert (newer.exit_code, "newer release" in newer.stderr) == (1, True)
    assert "hunter2" not in "".join(result.output for result in (before, refused, done, after, newer))


def test_a_database_that_is_away_is_said_to_be_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://veridask:hunter2@/cases?host={tmp_path}"
    result = CLI.invoke(app, ["db", "current"], env={"VERIDASK_DATABASE_URL": url})
    assert (result.exit_code, "hunter2" in result.output) == (1, False)
    with pytest.raises(StoreUnavailableError):
        current(Database(url))
