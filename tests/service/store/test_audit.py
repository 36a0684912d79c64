"""The audit log: what it says, that it cannot be changed quietly, and what its command finds when it was."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from service.cli.main import app
from service.errors import AuditBrokenError
from service.lifecycle.case import Change
from service.lifecycle.transitions import accept, cancel, decide, expire
from service.store.audit import Anchor, AuditLog, Entry, append, line_hash
from service.store.cases import CaseStore
from service.store.database import Database
from tests.support.case_stores import NOW, VERDICT, created, new_case

CLI = CliRunner()


def execute(url: str, *statements: str) -> None:
    """As the database's owner, who can take the triggers away."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def unguarded(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        execute(url, "DROP TRIGGER audit_update", "DROP TRIGGER audit_delete", statement)
    else:
        execute(url, "DROP TRIGGER audit_append_only ON audit", statement)


async def lines(store: CaseStore, **wanted: Any) -> list[tuple[str, str, dict[str, Any]]]:
    page = await store.audit.page(100, **wanted)
    return [(line.entry.actor, line.entry.action, dict(line.entry.details)) for line in reversed(page)]


async def some(store: CaseStore, count: int) -> Anchor:
    for number in range(count):
        await store.audit.record(
            NOW + timedelta(seconds=number), Entry("key_a", "evidence.read", "case_x", {"n": number})
        )
    return await store.audit.head()


async def test_the_life_of_a_case_is_in_the_log(store: CaseStore) -> None:
    case = new_case()
    await store.create(Change(case, ()), by="key_a")
    for step in ("front", "face"):
        await store.change(case.id, lambda c, s=step: accept(c, s, NOW, "r"), by="client_secret")  # type: ignore[misc]
    await store.change(case.id, lambda c: decide(c, {"front": 1, "face": 1}, VERDICT, NOW))
    await store.erasures.redact(case.id, NOW, "key_b")
    await store.erasures.mark_erased(case.id, NOW)
    canceled, expired = await created(store), await created(store)
    await store.change(canceled.id, lambda c: cancel(c, NOW), by="key_a")
    await store.change(expired.id, lambda c: expire(c, c.expires_at))
    await store.delete(expired.id)
    decision = {"outcome": "declined", "policy_version": "standard-1", "decided_by": "policy"}
    assert await lines(store, case_id=case.id) == [
        ("key_a", "case.created", {"profile": "standard"}),
        ("client_secret", "upload.received", {"step": "front", "attempt": 1}),
        ("client_secret", "upload.received", {"step": "face", "attempt": 1}),
        ("service", "case.decided", decision),
        ("key_b", "case.redacted", {}),
        ("service", "case.erased", {}),
    ]
    assert [line[:2] for line in await lines(store, case_id=canceled.id)][1:] == [("key_a", "case.canceled")]
    assert [line[1] for line in await lines(store, case_id=expired.id)][1:] == ["case.expired", "case.taken_back"]
    assert [line.number for line in store.audit.verified()] == list(range(1, 12))


async def test_a_change_that_fails_leaves_no_line(store: CaseStore) -> None:
    case = await created(store)
    await store.change(case.id, lambda c: cancel(c, NOW))
    before = await store.audit.head()
    await store.change(case.id, lambda _: None)
    with pytest.raises(ZeroDivisionError):
        await store.change(case.id, lambda _: 1 / 0)  # type: ignore[type-var]
    assert await store.audit.head() == before


async def test_lines_of_two_processes_that_write_at_once_make_one_chain(store: CaseStore, store_url: str) -> None:
    """The first lines of two processes once made both the row that they wait for, which PostgreSQL refused one."""
    database = Database(store_url)
    try:
        other = AuditLog(database)
        await asyncio.gather(*(log.record(NOW, Entry("a", "b")) for _ in range(20) for log in (store.audit, other)))
        assert [line.number for line in other.verified()] == list(range(1, 41))
    finally:
        await database.close()


async def test_who_writes_beside_the_first_line_waits_for_it(store: CaseStore) -> None:
    """On PostgreSQL both found no head and made one, and the request of the second failed."""
    with store.database.writing() as session:
        append(session, NOW, [Entry("a", "b")])
        session.flush()
        beside = asyncio.create_task(store.audit.record(NOW, Entry("c", "d")))
        await asyncio.sleep(0.3)
        assert not beside.done()
    await beside
    assert [line.entry.actor for line in store.audit.verified()] == ["a", "c"]


async def test_without_its_head_the_log_is_broken_and_takes_no_line(store: CaseStore, store_url: str) -> None:
    """It passed as empty once."""
    await some(store, 2)
    execute(store_url, "DELETE FROM audit_head")
    with pytest.raises(AuditBrokenError, match="how many lines"):
        await store.audit.head()
    with pytest.raises(AuditBrokenError, match="how many lines"):
        await store.audit.record(NOW, Entry("a", "b"))
    with pytest.raises(AuditBrokenError, match="how many lines"):
        list(store.audit.verified())


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit WHERE number = 2"])
async def test_the_database_refuses_to_change_lines(store: CaseStore, store_url: str, statement: str) -> None:
    await some(store, 3)
    with pytest.raises(DBAPIError, match="append-only"):
        execute(store_url, statement)
    assert len(list(store.audit.verified())) == 3


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE number = 3", "Line 3, or a line before it, was changed"),
        ("UPDATE audit SET details = '{\"n\": 7}' WHERE number = 1", "Line 1, or a line before it, was changed"),
        ("UPDATE audit SET case_id = NULL WHERE number = 5", "Line 5, or a line before it, was changed"),
        (
            "UPDATE audit SET at = (SELECT at FROM audit WHERE number = 1) WHERE number = 2",
            "Line 2, or a line before it, was changed",
        ),
        ("DELETE FROM audit WHERE number = 4", "Line 4 is missing"),
        ("DELETE FROM audit WHERE number = 5", "The lines after line 4 are missing"),
        ("UPDATE audit SET number = 9 WHERE number = 5", "The lines after line 4 are missing"),
    ],
)
async def test_what_was_changed_is_found(store: CaseStore, store_url: str, statement: str, found: str) -> None:
    await some(store, 5)
    unguarded(store_url, statement)
    with pytest.raises(AuditBrokenError, match=found):
        list(store.audit.verified())


async def test_a_log_that_was_written_anew_is_found_by_an_anchor(store: CaseStore, store_url: str) -> None:
    anchor = await some(store, 3)
    assert len(list(store.audit.verified([anchor]))) == 3
    first = next(iter(store.audit.verified()))
    unguarded(store_url, "DELETE FROM audit")
    execute(store_url, f"UPDATE audit_head SET number = 0, hash = '{'0' * 64}'")  # noqa: S608
    with pytest.raises(AuditBrokenError, match="The lines after line 0 are missing"):
        list(store.audit.verified([anchor]))
    for _ in range(3):
        await store.audit.record(NOW, Entry("nobody", "evidence.read", "case_x"))
    assert len(list(store.audit.verified())) == 3
    with pytest.raises(AuditBrokenError, match="Line 1 differs from its anchor"):
        list(store.audit.verified([Anchor(1, first.hash)]))


@given(st.text(max_size=8), st.text(max_size=8), st.none() | st.text(max_size=8), st.text(max_size=8))
def test_no_two_lines_have_one_hash(actor: str, action: str, case_id: str | None, detail: str) -> None:
    """Parts that run into each other would let one line pass for another."""
    one = line_hash("0" * 64, 1, NOW, Entry(actor, action, case_id, {"d": detail}))
    moved = Entry(actor + action[:1], action[1:], case_id, {"d": detail})
    assert (line_hash("0" * 64, 1, NOW, moved) == one) == (action == "")


def test_the_command_proves_and_shows(tmp_path: Path) -> None:
    options = ["--data-dir", str(tmp_path)]
    made = CLI.invoke(app, ["keys", "create", "--name", "auditor", "--scope", "cases:read", *options])
    key_id = re.search(r"key_\w+", made.stderr)
    assert key_id is not None
    assert CLI.invoke(app, ["keys", "revoke", key_id[0], *options]).exit_code == 0
    whole = CLI.invoke(app, ["audit", "verify", *options])
    anchor = re.search(r"2:[0-9a-f]{64}", whole.stdout)
    assert whole.exit_code == 0
    assert anchor is not None
    assert CLI.invoke(app, ["audit", "verify", "--anchor", anchor[0], *options]).exit_code == 0
    shown = CLI.invoke(app, ["audit", "show", *options]).stdout
    assert ("key.created" in shown, "key.revoked" in shown, "user:" in shown) == (True, True, True)
    assert "key.created" not in CLI.invoke(app, ["audit", "show", "--lines", "1", *options]).stdout
    unguarded(f"sqlite:///{tmp_path / 'cases.sqlite'}", "UPDATE audit SET action = 'none' WHERE number = 1")
    broken = CLI.invoke(app, ["audit", "verify", *options])
    assert (broken.exit_code, "Line 1, or a line before it, was changed" in broken.stderr) == (1, True)
    assert CLI.invoke(app, ["audit", "verify", "--anchor", "2:zz", *options]).exit_code == 2
    assert CLI.invoke(app, ["audit", "show", "--case", "../x", *options]).exit_code == 2
