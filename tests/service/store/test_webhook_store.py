"""Webhooks in the case store: due with the change of a case or not at all, claimed once, in order."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from standardwebhooks import Webhook

from graphs.reasons import reason
from graphs.records import CheckResult, Decision, Verdict
from service.errors import (
    EndpointDisabledError,
    StoreUnavailableError,
    TooManyEndpointsError,
    UnknownDeliveryError,
    UnknownEndpointError,
)
from service.lifecycle.case import Case, StepState
from service.lifecycle.transitions import accept, cancel, decide, judge_quality
from service.store.cases import CaseStore
from service.store.outbox import add_deliveries, body_of
from service.store.tables import EndpointRow
from service.store.webhooks import MAX_ENDPOINTS, AttemptResult, Claim, Endpoint, WebhookStore
from service.vocabulary import EventType, Status
from service.webhooks.sender import judged
from tests.support.case_stores import KEYS, NOW, VERDICT, created, new_case

LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def webhooks(store: CaseStore) -> WebhookStore:
    return WebhookStore(store.database, KEYS)


async def made(webhooks: WebhookStore, events: list[str] | None = None) -> Endpoint:
    return (await webhooks.add("https://example.org/hooks", events, None, NOW))[0]


async def claimed(webhooks: WebhookStore, most: int = 10, minutes: int = 1) -> list[Claim]:
    now = NOW + timedelta(minutes=minutes)
    return await webhooks.claim(now, now + timedelta(seconds=15), most, {})


def types(claims: list[Claim]) -> list[str]:
    return [claim.delivery.type for claim in claims]


def test_there_is_a_type_for_each_status() -> None:
    assert {f"case.{status}" for status in get_args(Status)} == set(get_args(EventType))


def test_a_payload_says_what_a_case_came_to_and_nothing_of_the_person() -> None:
    case = replace(new_case(), steps={"front": StepState("received", 1), "face": StepState("received", 1)})
    change = decide(case, case.attempts, VERDICT, NOW)
    assert change is not None
    assert json.loads(body_of(change.case, "case.completed", NOW)) == {
        "type": "case.completed",
        "timestamp": "2026-03-01T12:00:00+00:00",
        "data": {
            "id": case.id,
            "object": "case",
            "status": "completed",
            "profile": "standard",
            "client_reference_id": "person 7",
            "livemode": True,
            "outcome": "declined",
            "reasons": ["selfie_face_mismatch"],
        },
    }
    reasons = VERDICT.decision.reasons * 2
    retake = replace(case, status="requires_input", steps={"face": StepState("retake", 1, reasons)})
    told = json.loads(body_of(retake, "case.requires_input", NOW))["data"]
    assert (told["outcome"], told["reasons"]) == (None, ["selfie_face_mismatch"])


async def test_each_change_of_status_is_due_once_at_each_endpoint_that_wants_it(
    store: CaseStore, webhooks: WebhookStore
) -> None:
    case = await created(store)  # before there is an endpoint
    everything, ends = await made(webhooks), await made(webhooks, ["case.completed", "case.canceled"])
    for step in ("front", "face"):
        await store.change(case.id, lambda now, s=step: accept(now, s, NOW, "replica_a"))  # type: ignore[misc]
    await store.change(case.id, lambda now: decide(now, now.attempts, VERDICT, NOW))
    other = await created(store)
    for _ in range(2):
        await store.change(other.id, lambda now: cancel(now, NOW))
    told = {
        endpoint.id: [(d.type, d.case_id) for d in reversed(await webhooks.deliveries(endpoint.id, 10))]
        for endpoint in (everything, ends)
    }
    assert told[everything.id] == [
        ("case.processing", case.id),
        ("case.completed", case.id),
        ("case.requires_input", other.id),
        ("case.canceled", other.id),
    ]
    assert told[ends.id] == [("case.completed", case.id), ("case.canceled", other.id)]


async def test_a_retake_is_told_while_another_step_is_missing(store: CaseStore, webhooks: WebhookStore) -> None:
    """The status stays, so nothing was told: the customer did not know what the person was asked for."""
    case, endpoint = await created(store), await made(webhooks)
    blurred = reason("blurred_photo", "quality_front", "front", retryable=True)
    rejected = CheckResult("quality_front", "rejected", (blurred,))
    await store.change(case.id, lambda now: accept(now, "front", NOW, "replica_a"))
    assert await webhooks.deliveries(endpoint.id, 10) == []
    for _ in range(2):
        await store.change(case.id, lambda now: judge_quality(now, "front", 1, rejected, NOW))
    [told] = await webhooks.deliveries(endpoint.id, 10)
    assert told.type == "case.requires_input"
    assert json.loads(told.body)["data"]["reasons"] == ["blurred_photo"]


async def test_a_decision_is_told_that_leaves_the_status(store: CaseStore, webhooks: WebhookStore) -> None:
    """The front was asked for again by its quality, before the decision came that asks for it as well."""
    case, endpoint = await created(store), await made(webhooks, ["case.requires_input"])
    blurred = reason("blurred_photo", "quality_front", "front", retryable=True)
    for step in ("front", "face"):
        await store.change(case.id, lambda now, s=step: accept(now, s, NOW, "replica_a"))  # type: ignore[misc]
    rejected = CheckResult("quality_front", "rejected", (blurred,))
    await store.change(case.id, lambda now: judge_quality(now, "front", 1, rejected, NOW))
    again = Verdict(Decision("resubmission_requested", (blurred,), "standard-2", ("front",)), (rejected,))
    await store.change(case.id, lambda now: decide(now, now.attempts, again, NOW))
    told = [json.loads(delivery.body)["data"] for delivery in reversed(await webhooks.deliveries(endpoint.id, 10))]
    assert [(each["outcome"], each["reasons"]) for each in told] == [
        (None, ["blurred_photo"]),
        ("resubmission_requested", ["blurred_photo"]),
    ]


async def test_a_change_that_fails_leaves_nothing_due(store: CaseStore, webhooks: WebhookStore, tmp_path: Path) -> None:
    endpoint, case = await made(webhooks), await created(store)

    def broken(_: Case) -> object:
        raise KeyError("evidence")

    with pytest.raises(KeyError):
        await store.change(case.id, lambda now: cancel(now, NOW), upload=broken)  # type: ignore[arg-type]
    assert [d.type for d in await webhooks.deliveries(endpoint.id, 10)] == ["case.requires_input"]
    await store.delete(case.id)
    assert await webhooks.deliveries(endpoint.id, 10) == []


async def test_of_two_processes_one_claims(store: CaseStore, webhooks: WebhookStore, store_url: str) -> None:
    await made(webhooks)
    for _ in range(5):
        await created(store)
    other = CaseStore(store_url, lambda _: None, KEYS)
    await other.start()
    again = WebhookStore(other.database, KEYS)
    first, second = await claimed(webhooks, 3), await claimed(again)
    assert (len(first), len(second)) == (3, 2)
    assert len({claim.delivery.id for claim in (*first, *second)}) == 5
    assert await claimed(webhooks) == []
    taken = await claimed(again, minutes=2)
    assert len(taken) == 5, "claims end"
    assert not await webhooks.record(first[0], AttemptResult("failed"), LATER), "the first one's outcome comes too late"
    assert await again.record(taken[0], AttemptResult("delivered", 200), LATER)
    await again.release(taken[1:])
    assert len(await claimed(webhooks, minutes=2)) == 4
    await other.close()


async def test_places_under_way_are_counted(store: CaseStore, webhooks: WebhookStore) -> None:
    busy, free = await made(webhooks), await made(webhooks)
    for _ in range(3):
        await created(store)
    claims = await webhooks.claim(LATER, LATER, 2, {busy.id: 2})
    assert [claim.delivery.endpoint_id for claim in claims] == [free.id] * 2


async def test_a_later_event_of_a_case_waits_for_the_earlier_one(store: CaseStore, webhooks: WebhookStore) -> None:
    endpoint, case, other = await made(webhooks), await created(store), await created(store)
    await store.change(case.id, lambda now: cancel(now, NOW))
    first = await claimed(webhooks)
    assert {claim.delivery.case_id for claim in first} == {case.id, other.id}
    assert types(first) == ["case.requires_input"] * 2
    mine = next(claim for claim in first if claim.delivery.case_id == case.id)
    await webhooks.record(mine, AttemptResult("pending", 500, None, next_at=NOW + timedelta(minutes=3)), LATER)
    assert await claimed(webhooks, minutes=1) == []
    waiting = [d for d in await webhooks.deliveries(endpoint.id, 9) if d.case_id == case.id]
    assert {d.next_at for d in waiting} == {NOW + timedelta(minutes=3)}
    (again,) = [c for c in await claimed(webhooks, minutes=4) if c.delivery.case_id == case.id]
    assert (again.delivery.id, again.tries) == (mine.delivery.id, 2)
    await webhooks.record(again, AttemptResult("failed", 500), NOW + timedelta(minutes=4))
    (last,) = [c for c in await claimed(webhooks, minutes=4) if c.delivery.case_id == case.id]
    assert last.delivery.type == "case.canceled"
    assert (await webhooks.delivery(endpoint.id, mine.delivery.id)).attempts == 2


async def test_one_that_is_sent_again_neither_waits_nor_is_waited_for(store: CaseStore, webhooks: WebhookStore) -> None:
    endpoint, case = await made(webhooks), await created(store)
    (first,) = await claimed(webhooks)
    await webhooks.record(first, AttemptResult("delivered", 200), LATER)
    await store.change(case.id, lambda now: cancel(now, NOW))
    replayed = await webhooks.replay(endpoint.id, first.delivery.id, NOW)
    assert (replayed.id, replayed.state, replayed.attempts) == (first.delivery.id, "pending", 1)
    claims = await claimed(webhooks)
    assert sorted(types(claims)) == ["case.canceled", "case.requires_input"]
    assert {claim.tries for claim in claims} == {1}
    again = next(claim for claim in claims if claim.delivery.id == first.delivery.id)
    await webhooks.record(again, AttemptResult("pending", 500, next_at=NOW + timedelta(hours=8)), LATER)
    await webhooks.release([claim for claim in claims if claim is not again])
    assert types(await claimed(webhooks)) == ["case.canceled"]


async def test_a_replay_in_the_middle_of_an_attempt_is_one_more(store: CaseStore, webhooks: WebhookStore) -> None:
    """It was swallowed once: the attempt that was under way ended well, and with it what had just been asked for."""
    endpoint, _ = await made(webhooks), await created(store)
    (first,) = await claimed(webhooks)
    await webhooks.replay(endpoint.id, first.delivery.id, NOW)
    assert not await webhooks.record(first, AttemptResult("delivered", 200), LATER)
    (second,) = await webhooks.claim(LATER, LATER + timedelta(seconds=16), 4, {})
    assert (second.delivery.id, second.tries) == (first.delivery.id, 1)
    assert await webhooks.record(second, AttemptResult("delivered", 200), LATER)


async def test_an_endpoint_that_is_gone_gets_nothing_until_it_is_enabled(
    store: CaseStore, webhooks: WebhookStore
) -> None:
    endpoint, case = await made(webhooks), await created(store)
    waiting = await created(store)
    claim = next(c for c in await claimed(webhooks) if c.delivery.case_id == case.id)
    await webhooks.record(claim, AttemptResult("failed", 410, disables=True), LATER)
    assert (await webhooks.endpoint(endpoint.id)).disabled_at == LATER
    await store.change(case.id, lambda now: cancel(now, NOW))
    log = await webhooks.deliveries(endpoint.id, 10)
    assert [(d.case_id, d.state, d.last_error) for d in log] == [
        (waiting.id, "failed", "endpoint_disabled"),
        (case.id, "failed", None),
    ]
    with pytest.raises(EndpointDisabledError):
        await webhooks.replay(endpoint.id, claim.delivery.id, NOW)
    assert (await webhooks.enable(endpoint.id, NOW)).disabled_at is None
    await webhooks.replay(endpoint.id, claim.delivery.id, NOW)
    assert types(await claimed(webhooks, minutes=2)) == ["case.requires_input"]


async def test_the_log_is_newest_first_and_in_parts(store: CaseStore, webhooks: WebhookStore) -> None:
    endpoint = await made(webhooks)
    cases = [await created(store) for _ in range(5)]
    first = await webhooks.deliveries(endpoint.id, 2)
    rest = await webhooks.deliveries(endpoint.id, 9, first[-1].id)
    assert [d.case_id for d in (*first, *rest)] == [case.id for case in reversed(cases)]
    assert await webhooks.deliveries(endpoint.id, 9, state="failed") == []
    with pytest.raises(UnknownDeliveryError):
        await webhooks.deliveries(endpoint.id, 2, "msg_unknown")
    with pytest.raises(UnknownEndpointError):
        await webhooks.deliveries("endpoint_unknown", 2)
    other = await made(webhooks)
    with pytest.raises(UnknownDeliveryError):
        await webhooks.delivery(other.id, first[0].id)


async def test_secrets_are_good_and_the_old_one_signs_for_a_day(store: CaseStore, webhooks: WebhookStore) -> None:
    endpoint, secret = await webhooks.add("https://example.org/", None, "ours", NOW)
    assert secret.startswith("whsec_")
    with store.database.reading() as session:
        row = session.get_one(EndpointRow, endpoint.id)
        assert secret.encode() not in row.secret + row.data_key
    assert Webhook(secret).sign("id", NOW, "body") != Webhook("whsec_AAAA").sign("id", NOW, "body")
    _, new = await webhooks.rotate(endpoint.id, NOW)
    await created(store)
    (claim,) = await claimed(webhooks)
    assert claim.secrets == (new, secret)
    (claim,) = await claimed(webhooks, minutes=24 * 60 + 1)
    assert claim.secrets == (new,)


async def test_deleted_endpoints_take_their_deliveries_along_and_there_is_a_bound(
    store: CaseStore, webhooks: WebhookStore
) -> None:
    endpoints = [await made(webhooks) for _ in range(MAX_ENDPOINTS)]
    with pytest.raises(TooManyEndpointsError):
        await made(webhooks)
    await created(store)
    await webhooks.remove(endpoints[0].id, NOW)
    with pytest.raises(UnknownEndpointError):
        await webhooks.remove(endpoints[0].id, NOW)
    assert [e.id for e in await webhooks.endpoints()] == [e.id for e in endpoints[1:]]
    assert len(await claimed(webhooks)) == MAX_ENDPOINTS - 1


async def test_what_becomes_due_while_its_endpoint_is_disabled_ends_as_well(
    store: CaseStore, webhooks: WebhookStore
) -> None:
    """On PostgreSQL it stayed due, and was sent before all else once the endpoint was enabled."""
    case = await created(store)
    endpoint = await made(webhooks)
    await created(store)
    (claim,) = await claimed(webhooks)
    with store.database.writing() as session:
        add_deliveries(session, cancel(case, NOW))
        disabling = asyncio.create_task(webhooks.record(claim, AttemptResult("failed", 410, disables=True), LATER))
        await asyncio.sleep(0.3)
        assert not disabling.done()
    assert await disabling
    assert [one.state for one in await webhooks.deliveries(endpoint.id, 9)] == ["failed"] * 2


async def test_an_endpoint_that_is_deleted_meanwhile_fails_no_case(store: CaseStore, webhooks: WebhookStore) -> None:
    """Its row is locked while a delivery that points to it is written; without that PostgreSQL fails the change."""
    endpoints = [await made(webhooks) for _ in range(MAX_ENDPOINTS)]
    cases = (created(store) for _ in range(4 * MAX_ENDPOINTS))
    await asyncio.gather(*cases, *(webhooks.remove(endpoint.id, NOW) for endpoint in endpoints))
    assert await webhooks.endpoints() == []


async def test_what_ended_long_ago_is_let_go(store: CaseStore, webhooks: WebhookStore) -> None:
    endpoint = await made(webhooks)
    ended, waiting = await created(store), await created(store)
    claim = next(c for c in await claimed(webhooks) if c.delivery.case_id == ended.id)
    await webhooks.record(claim, AttemptResult("delivered", 204), LATER)
    await webhooks.delete_ended(LATER)
    assert len(await webhooks.deliveries(endpoint.id, 9)) == 2
    await webhooks.delete_ended(LATER + timedelta(seconds=1))
    assert [d.case_id for d in await webhooks.deliveries(endpoint.id, 9)] == [waiting.id]


async def test_a_store_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    store = CaseStore(f"sqlite:///{tmp_path / 'cases.sqlite'}", lambda _: None, KEYS)  # its tables were never made
    with pytest.raises(StoreUnavailableError):
        await WebhookStore(store.database, KEYS).claim(NOW, NOW, 1, {})
    await store.close()


@pytest.mark.parametrize(
    ("status", "error", "tries", "outcome"),
    [
        (200, None, 1, AttemptResult("delivered", 200)),
        (299, None, 4, AttemptResult("delivered", 299)),
        (301, None, 1, AttemptResult("pending", 301, next_at=NOW + timedelta(seconds=5))),
        (404, None, 2, AttemptResult("pending", 404, next_at=NOW + timedelta(seconds=30))),
        (None, "timeout", 2, AttemptResult("pending", None, "timeout", next_at=NOW + timedelta(seconds=30))),
        (410, None, 1, AttemptResult("failed", 410, disables=True)),
        (500, None, 3, AttemptResult("failed", 500)),
        (None, "no_connection", 9, AttemptResult("failed", None, "no_connection")),
    ],
)
def test_what_an_attempt_comes_to(status: int | None, error: str | None, tries: int, outcome: AttemptResult) -> None:
    assert judged(status, error, tries, (5, 30), NOW, 0.0) == outcome


def test_waits_are_a_fifth_more_or_less() -> None:
    waits = [judged(500, None, 1, (100,), NOW, jitter).next_at for jitter in (-0.2, 0.2)]
    assert waits == [NOW + timedelta(seconds=80), NOW + timedelta(seconds=120)]
