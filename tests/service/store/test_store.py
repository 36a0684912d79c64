"""The case store on a real SQLite file: what is committed is exact, once, and survives."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import event, update

from graphs.records import Step
from service.errors import CaseClosedError, StepTakenError, StoreUnavailableError, UnknownCaseError
from service.lifecycle.case import Case, Change, Event, StepState
from service.lifecycle.transitions import accept, cancel, decide
from service.store.cases import CaseStore
from service.store.rows import StoredRequest, Upload
from service.store.tables import CaseRow
from tests.support.case_stores import KEYS, NOW, VERDICT, created, new_case, upload_of


async def test_a_case_comes_back_as_it_was_stored(store: CaseStore) -> None:
    case = await created(store)
    assert await store.get(case.id) == case
    assert [e.data for e in await store.events(case.id)] == [{"status": "requires_input"}]
    # In PostgreSQL's own zone, resumable uploads were answered with 500 and times were told in it.
    assert (await store.get(case.id)).expires_at.isoformat() == "2026-03-01T13:00:00+00:00"
    assert (await store.get(case.id)).expires_at.tzinfo is UTC
    assert [c.id for c in await store.replicas.orphaned_cases(NOW, 10)] == [case.id]


@pytest.mark.parametrize("case_id", ["", "case_", "case_" + "0" * 26, "../../etc/passwd", "case_" + "é" * 26])
async def test_an_unknown_id_is_said_to_be_unknown(store: CaseStore, case_id: str) -> None:
    with pytest.raises(UnknownCaseError):
        await store.get(case_id)
    if case_id == "case_" + "0" * 26:
        with pytest.raises(UnknownCaseError):
            await store.change(case_id, lambda case: cancel(case, NOW))


async def test_of_many_simultaneous_uploads_of_a_step_one_wins(store: CaseStore) -> None:
    case = await created(store)

    async def upload() -> bool:
        try:
            await store.change(case.id, lambda now: accept(now, "front", NOW, "replica_a"), upload=upload_of("front"))  # type: ignore[arg-type]
        except StepTakenError:
            return False
        return True

    assert sum(await asyncio.gather(*(upload() for _ in range(12)))) == 1
    assert [(u.step, u.attempt) for u in await store.uploads(case.id)] == [("front", 1)]
    assert (await store.get(case.id)).steps["front"] == StepState("received", 1)


async def test_a_decision_is_recorded_exactly_once(store: CaseStore) -> None:
    case = await created(store)
    for step in ("front", "face"):
        await store.change(case.id, lambda now, s=step: accept(now, s, NOW, "replica_a"), upload=upload_of(step))  # type: ignore[arg-type, misc]
    attempts: dict[Step, int] = {"front": 1, "face": 1}
    check = Event("check", {"check": "match"})
    done = await asyncio.gather(
        *(store.change(case.id, lambda now: decide(now, attempts, VERDICT, NOW), before=[check]) for _ in range(8))
    )
    assert sum(change is not None for change in done) == 1
    after = await store.get(case.id)
    assert after.status == "completed"
    assert after.recorded is not None
    assert after.recorded.decision == VERDICT.decision
    assert after.checks[0].properties == {"pairs": [0, 1, 2], "nothing": None}
    assert after.checks[0].breakdown == VERDICT.checks[0].breakdown
    kinds = [event.type for event in await store.events(case.id)]
    assert kinds == ["status", "step", "step", "status", "check", "decision", "status"]
    with pytest.raises(CaseClosedError):
        await store.change(case.id, lambda now: accept(now, "front", NOW, "replica_a"))


async def test_a_failed_transition_changes_nothing(store: CaseStore) -> None:
    case = await created(store)

    def broken(_: Case) -> Upload:
        raise KeyError("evidence")

    with pytest.raises(KeyError):
        await store.change(case.id, lambda now: accept(now, "front", NOW, "replica_a"), upload=broken)
    assert await store.get(case.id) == case
    assert len(await store.events(case.id)) == 1


async def test_two_processes_on_one_store_do_not_lose_a_change(store: CaseStore, store_url: str) -> None:
    other = CaseStore(store_url, lambda _: None, KEYS)
    await other.start()
    case = await created(store)
    changes = [
        which.change(case.id, lambda now, s=step: accept(now, s, NOW, "replica_a"))  # type: ignore[misc]
        for which, step in ((store, "front"), (other, "face"))
    ]
    await asyncio.gather(*changes)
    assert (await store.get(case.id)).status == "processing"
    await other.close()


async def test_a_repeated_request_finds_the_first_one(store: CaseStore) -> None:
    first, second = new_case(), new_case()
    request = StoredRequest("key-1", "a" * 64, first.id, {"id": first.id})
    assert await store.create(Change(first, ()), request) is None
    again = await store.create(Change(second, ()), replace(request, case_id=second.id))
    assert again == request
    cases = [new_case() for _ in range(6)]
    at_once = [store.create(Change(case, ()), StoredRequest("key-2", "a" * 64, case.id, {"id": 2})) for case in cases]
    answers = await asyncio.gather(*at_once)  # on PostgreSQL those that came second were refused
    assert sum(answer is None for answer in answers) == 1
    assert {answer.case_id for answer in answers if answer} == {cases[answers.index(None)].id}
    with pytest.raises(UnknownCaseError):
        await store.get(second.id)
    await store.delete(first.id)
    assert await store.request("key-1") is None


async def test_what_is_told_beside_a_change_comes_after_it(store: CaseStore) -> None:
    """On PostgreSQL it was committed later with a lower id, and a stream that had gone on never told it."""
    case = await created(store)
    with store.database.writing() as session:
        session.execute(update(CaseRow).where(CaseRow.id == case.id).values(replica="replica_b"))
        beside = asyncio.create_task(store.add_events([(case.id, Event("check", {"check": "a"}))], NOW))
        await asyncio.sleep(0.3)
        assert not beside.done()
    await beside
    assert [event.type for event in await store.events(case.id)] == ["status", "check"]


async def test_events_continue_after_an_id_and_wake_listeners(store_url: str) -> None:
    told: list[str] = []
    store = CaseStore(store_url, told.append, KEYS)
    await store.start()
    case = await created(store)
    await store.add_events([(case.id, Event("check", {"check": "a"})), ("case_unknown", Event("check"))], NOW)
    first, second = await store.events(case.id)
    assert [e.type for e in await store.events(case.id, first.id)] == ["check"]
    assert await store.events(case.id, second.id) == []
    assert told == [case.id, case.id]
    await store.close()


async def test_overdue_cases_are_found(store: CaseStore) -> None:
    early = await created(store)
    waiting = await created(store)
    for step in ("front", "face"):
        await store.change(waiting.id, lambda now, s=step: accept(now, s, NOW, "replica_a"))  # type: ignore[misc]
    assert await store.overdue(NOW, NOW - timedelta(minutes=5)) == []
    overdue = await store.overdue(NOW + timedelta(hours=2), NOW + timedelta(minutes=1))
    assert [case.id for case in overdue] == [early.id, waiting.id]


async def test_a_store_that_is_locked_or_full_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "cases.sqlite"
    store = CaseStore(f"sqlite:///{path}", lambda _: None, KEYS)
    await store.start()
    case = await created(store)
    limit = sqlite3.connect(path, isolation_level=None)
    pages = limit.execute("PRAGMA page_count").fetchone()[0]
    limit.close()
    # SQLite's own page limit is the same error as a full disk ("database or disk is full").
    # It is a connection's own, and the store may have several.
    event.listen(store._engine, "begin", lambda one: one.exec_driver_sql(f"PRAGMA max_page_count={pages}"))
    large = replace(new_case(), metadata={"k": "x" * 200_000})
    with pytest.raises(StoreUnavailableError):
        await store.create(Change(large, ()))
    assert await store.get(case.id) == case
    await store.close()


async def test_what_is_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'cases.sqlite'}"
    store = CaseStore(url, lambda _: None, KEYS)
    await store.start()
    case = await created(store)
    await store.close()
    again = CaseStore(url, lambda _: None, KEYS)
    await again.start()
    assert await again.get(case.id) == case
    await again.close()
    with sqlite3.connect(tmp_path / "cases.sqlite") as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


async def test_readers_that_go_away_cost_no_connection(store: CaseStore) -> None:
    """Event streams that were left once broke nearly every connection that they were asking through."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    case = new_case()
    await store.create(Change(case, (Event("case.created"),)))
    moments = random.Random(5)

    async def reader() -> None:
        for _ in range(3):
            await store.get(case.id)
            await store.events(case.id)

    async def left_half_way() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(reader)
            for _ in range(moments.randrange(40)):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    for _ in range(12):
        await asyncio.gather(*(left_half_way() for _ in range(4)))
    await asyncio.sleep(0.2)  # what was asked for last comes to its end
    gc.collect()
    assert complaints == []
    assert len(await store.events(case.id)) == 1
