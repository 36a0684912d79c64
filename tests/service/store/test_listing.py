"""Lists of cases: pages that lose nothing and show nothing twice, filters, and what comes over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs.records import Decision
from service.client import VeridaskClient
from service.lifecycle.case import Case, Change, Recorded
from service.store.cases import CaseStore
from service.store.listing import CaseFilter, ListedCase
from tests.support.case_stores import NOW, new_case

KINDS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["requires_input", "processing", "completed", "canceled"]),
        "outcome": st.sampled_from([None, "approved", "declined"]),
        "profile": st.sampled_from(["standard", "document"]),
        "reference": st.sampled_from([None, "a", "b"]),
        "minutes": st.integers(0, 5),
    }
)
WANTED = st.builds(
    CaseFilter,
    status=st.sampled_from([(), ("completed",), ("canceled", "processing")]),
    outcome=st.sampled_from([(), ("approved",), ("approved", "declined")]),
    profile=st.sampled_from([None, "standard"]),
    client_reference_id=st.sampled_from([None, "a"]),
    created_from=st.sampled_from([None, NOW + timedelta(minutes=2)]),
    created_before=st.sampled_from([None, NOW + timedelta(minutes=4)]),
)


def case_of(kind: dict[str, Any]) -> Case:
    at = NOW + timedelta(minutes=kind["minutes"])
    decision = Decision(kind["outcome"], (), "p") if kind["outcome"] else None
    return replace(
        new_case(),
        profile=kind["profile"],
        status=kind["status"],
        client_reference_id=kind["reference"],
        created_at=at,
        updated_at=at,
        expires_at=at + timedelta(hours=1),
        recorded=Recorded(decision, at, "policy", {}) if decision else None,
    )


def is_wanted(case: Case, wanted: CaseFilter) -> bool:
    outcome = case.recorded.decision.outcome if case.recorded else None
    return (
        (not wanted.status or case.status in wanted.status)
        and (not wanted.outcome or outcome in wanted.outcome)
        and wanted.profile in (None, case.profile)
        and wanted.client_reference_id in (None, case.client_reference_id)
        and (wanted.created_from is None or case.created_at >= wanted.created_from)
        and (wanted.created_before is None or case.created_at < wanted.created_before)
    )


async def pages(store: CaseStore, wanted: CaseFilter, limit: int) -> list[ListedCase]:
    found: list[ListedCase] = []
    while True:
        page, more = await store.page(wanted, limit, found[-1].id if found else None)
        assert len(page) == limit if more else len(page) <= limit
        found += page
        if not more:
            return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(KINDS, max_size=12), wanted=WANTED, limit=st.integers(1, 5))
async def test_pages_hold_each_wanted_case_once_newest_first(
    store: CaseStore, kinds: list[dict[str, Any]], wanted: CaseFilter, limit: int
) -> None:
    before = {one.id for one in await pages(store, CaseFilter(), 100)}
    made = [case_of(kind) for kind in kinds]
    for case in made:
        await store.create(Change(case, ()))
    found = [one for one in await pages(store, wanted, limit) if one.id not in before]
    assert [one.id for one in found] == sorted((case.id for case in made if is_wanted(case, wanted)), reverse=True)


async def test_a_case_that_comes_meanwhile_shifts_nothing(store: CaseStore) -> None:
    kind = {"status": "completed", "outcome": "approved", "profile": "standard", "reference": "a", "minutes": 0}
    made = [case_of(kind) for _ in range(6)]
    for case in made:
        await store.create(Change(case, ()))
    first, more = await store.page(CaseFilter(), 4, None)
    assert more
    await asyncio.sleep(0.002)  # ids of one millisecond have no order
    await store.create(Change(case_of(kind), ()))
    second, more = await store.page(CaseFilter(), 4, first[-1].id)
    assert not more
    assert [one.id for one in (*first, *second)] == sorted((case.id for case in made), reverse=True)
    shown = ListedCase(
        first[0].id, "completed", "standard", True, "a", {"origin": "test"}, "approved", NOW, NOW, first[0].expires_at
    )
    assert first[0] == shown


async def test_the_outcome_in_the_list_is_that_of_the_newest_decision(store: CaseStore) -> None:
    kind = {"status": "requires_input", "outcome": "approved", "profile": "standard", "reference": "a", "minutes": 0}
    case = case_of(kind)
    await store.create(Change(case, ()))
    await store.change(case.id, lambda now: Change(replace(now, recorded=None), ()))
    assert (await store.page(CaseFilter(), 1, None))[0][0].outcome is None


@pytest.mark.cluster
def test_lists_over_http(client: VeridaskClient, http: httpx.Client) -> None:
    mine = [client.create("recorded", client_reference_id="list test", metadata={"n": str(n)}) for n in range(5)]
    client.cancel(mine[0].id)
    first = client.cases(client_reference_id="list test", limit=3)
    assert [case.metadata["n"] for case in first.data] == ["4", "3", "2"]
    second = client.cases(client_reference_id="list test", limit=3, cursor=first.next_cursor)
    assert [case.metadata["n"] for case in second.data] == ["1", "0"]
    assert second.next_cursor is None
    canceled = client.cases(client_reference_id="list test", status=["canceled", "expired"])
    assert [case.id for case in canceled.data] == [mine[0].id]
    since = mine[2].created_at.isoformat()
    assert len(client.cases(client_reference_id="list test", created_from=since).data) == 3
    for case in mine[1:]:
        client.cancel(case.id)


@pytest.mark.cluster
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "cursor=case_1", "cursor=../x", "status=lost", "outcome=maybe",
     "created_from=yesterday", "created_from=2026-01-01T00:00:00", f"profile={'p' * 65}", "status=canceled&" * 9],
)  # fmt: skip
def test_bad_lists_are_refused(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/v1/cases?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
