"""A person's decision on a case that was left to one: as a transition, in the store, and over real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from graphs.reasons import reason
from graphs.records import Decision, Step, Verdict
from service.client import ProblemError, VeridaskClient
from service.errors import NoAttemptsError, NotInReviewError, UnknownStepError
from service.lifecycle.case import Case, Change, Opinion, StepState
from service.lifecycle.transitions import accept, decide, expire, redact, review
from service.schemas.cases import CaseView
from service.server.local import Running
from service.store.api_keys import ApiKeys
from service.store.cases import CaseStore
from service.store.database import Database
from service.views.cases import case_view, without_review
from tests.support.case_stores import NOW, bare_case, created
from tests.support.data_folders import settings_in
from tests.support.receiver import Receiver

LATER = NOW + timedelta(days=3)
UNTIL = LATER + timedelta(hours=1)
DOUBT = Verdict(Decision("review", (reason("no_hologram_seen", "hologram_front", "front"),), "standard-2"), ())
APPROVE = Opinion("approved", "Seen in daylight.", "by phone")
GLARE = reason("glare_on_photo", "review", "front", retryable=True)
AGAIN = Opinion("resubmission_requested", "Too bright.", None, (GLARE,), ("front",))


def left_to_a_person(case: Case, *, front: int = 1) -> Case:
    received: dict[Step, StepState] = {"front": StepState("received", front), "face": StepState("received", 1)}
    whole = replace(case, steps=received, status="processing", last_received_at=NOW)
    change = decide(whole, whole.attempts, DOUBT, NOW)
    assert change is not None
    assert change.case.status == "in_review"
    return change.case


@pytest.fixture
def case() -> Case:
    return left_to_a_person(bare_case({}))


@pytest.mark.parametrize("outcome", ["approved", "declined"])
def test_a_review_ends_the_case_and_keeps_what_had_been_decided(case: Case, outcome: Any) -> None:
    why = (reason("data_mismatch", "review", None),) if outcome == "declined" else ()
    change = review(case, Opinion(outcome, "I called him.", reasons=why), "key_a", LATER, UNTIL)
    after = change.case
    assert (after.status, after.updated_at, after.expires_at) == ("completed", LATER, case.expires_at)
    assert [event.type for event in change.events] == ["decision", "status"]
    assert change.events[0].data == {"outcome": outcome, "reasons": [r.code for r in why], "review": True}
    assert after.recorded is not None
    assert (after.recorded.decision.outcome, after.recorded.decided_by) == (outcome, "key_a")
    assert after.recorded.review is not None
    assert after.recorded.review.replaced == case.recorded
    view = case_view(after)
    assert view.decision is not None
    assert view.decision.review is not None
    assert view.decision.review.replaced.outcome == "review"
    assert (view.timings.decided_at, view.timings.decision_ms, view.timings.reviewed_at) == (NOW, 0, LATER)
    hidden = without_review(view).decision
    assert hidden is not None
    assert (hidden.outcome, hidden.review) == (outcome, None)


def test_a_resubmission_opens_the_steps_it_names_for_as_long_as_a_new_case(case: Case) -> None:
    """The time of the case itself is over by then: it would expire at once."""
    change = review(case, AGAIN, "key_a", LATER, UNTIL)
    asked = change.case
    assert (asked.status, asked.expires_at) == ("requires_input", UNTIL)
    assert asked.steps == {"front": StepState("retake", 1, (GLARE,)), "face": StepState("received", 1)}
    assert [event.type for event in change.events] == ["decision", "step", "status"]
    assert (expire(asked, UNTIL - timedelta(seconds=1)), expire(asked, UNTIL) is None) == (None, False)
    again = accept(asked, "front", LATER, "replica_a").case
    assert (again.status, again.recorded, again.attempts) == ("processing", None, {"front": 2, "face": 1})
    final = decide(again, again.attempts, Verdict(Decision("approved", (), "standard-2"), ()), LATER)
    assert final is not None
    assert final.case.status == "completed"


def test_what_cannot_be_asked_for_again(case: Case) -> None:
    spent = left_to_a_person(case, front=3)
    with pytest.raises(NoAttemptsError):
        review(spent, AGAIN, "key_a", LATER, UNTIL)
    with pytest.raises(UnknownStepError):
        review(case, replace(AGAIN, retake=("back",)), "key_a", LATER, UNTIL)
    assert review(spent, APPROVE, "key_a", LATER, UNTIL).case.status == "completed"


def test_only_a_case_in_review_is_reviewed_and_the_same_again_changes_nothing(case: Case) -> None:
    done = review(case, APPROVE, "key_a", LATER, UNTIL).case
    again = review(done, APPROVE, "key_a", LATER + timedelta(hours=1), UNTIL)
    assert (again.case, again.events) == (done, ())
    for opinion, by in ((APPROVE, "key_b"), (replace(APPROVE, note=None), "key_a"), (AGAIN, "key_a")):
        with pytest.raises(NotInReviewError):
            review(done, opinion, by, LATER, UNTIL)
    gone = redact(case, LATER)
    assert gone is not None
    for other in (replace(case, status="canceled"), replace(case, status="requires_input"), gone.case):
        with pytest.raises(NotInReviewError):
            review(other, APPROVE, "key_a", LATER, UNTIL)


async def test_of_two_reviewers_one_wins(store: CaseStore) -> None:
    opened = await created(store)
    for step in ("front", "face"):
        await store.change(opened.id, lambda c, s=step: accept(c, s, NOW, "r"))  # type: ignore[misc]
    await store.change(opened.id, lambda c: decide(c, c.attempts, DOUBT, NOW))

    async def one(number: int) -> bool:
        opinion, by = Opinion("approved" if number % 2 else "declined", "So it is."), f"key_{number}"
        try:
            await store.change(opened.id, lambda c: review(c, opinion, by, LATER, UNTIL), by=by)
        except NotInReviewError:
            return False
        return True

    won = [number for number, ok in enumerate(await asyncio.gather(*map(one, range(6)))) if ok]
    assert len(won) == 1
    after = await store.get(opened.id)
    assert after.recorded is not None
    assert after.recorded.decided_by == f"key_{won[0]}"
    assert [e.data["outcome"] for e in await store.events(opened.id) if e.type == "decision"] == [
        "review",
        after.recorded.decision.outcome,
    ]
    reviewed = (await store.audit.page(1, case_id=opened.id))[0].entry
    assert (reviewed.actor, reviewed.action) == (f"key_{won[0]}", "case.reviewed")
    assert reviewed.details == {
        "outcome": after.recorded.decision.outcome,
        "policy_version": "standard-2",
        "reasons": [],
        "retake": [],
        "before": "review",
        "before_by": "policy",
    }


async def test_a_review_is_read_again_as_it_was(store: CaseStore) -> None:
    opened = await created(store)
    await store.change(opened.id, lambda c: Change(left_to_a_person(c), ()))
    done = await store.change(opened.id, lambda c: review(c, AGAIN, "key_a", LATER, UNTIL), by="key_a")
    assert done is not None
    assert (await store.get(opened.id)).recorded == done.case.recorded


def in_review(client: VeridaskClient, picture: bytes) -> CaseView:
    """A case that was asked for again until a human must look."""
    case_id, end = client.create("document").id, time.monotonic() + 60
    while (view := client.case(case_id)).status in ("requires_input", "processing"):
        assert time.monotonic() < end, view
        for step in view.steps:
            if step.state != "received":
                client.upload(case_id, step.step, picture, "image/jpeg")
        time.sleep(0.05)
    assert view.status == "in_review", view
    return view


@pytest.mark.cluster
def test_a_reviewer_decides_over_http(
    server: Running, server_folder: Path, client: VeridaskClient, http: httpx.Client, picture: bytes
) -> None:
    database = Database(settings_in(server_folder).store_url)
    key, text = ApiKeys(database).create("reviewer", ["review:write"], datetime.now(UTC))
    database.engine.dispose()
    with Receiver() as receiver:
        endpoint = client.create_webhook_endpoint(receiver.url, events=["case.in_review", "case.completed"])
        case = in_review(client, picture)
        secret = client.client_secret(case.id).client_secret
        with VeridaskClient(server.url, text) as reviewer:
            with pytest.raises(ProblemError) as spent:
                reviewer.review(case.id, "resubmission_requested", "Again.", reasons=["dark_photo"], retake=["front"])
            assert (spent.value.status, spent.value.code) == (409, "no_attempts_left")
            done, again = (
                reviewer.review(case.id, "declined", "A photo of a wall.", reasons=[("gray_copy", "front")], note="!")
                for _ in range(2)
            )
            assert again == done
            with pytest.raises(ProblemError) as late:
                reviewer.review(case.id, "approved", "No.")
            assert (late.value.status, late.value.code) == (409, "case_not_in_review")
            with pytest.raises(ProblemError) as other:
                reviewer.case(case.id)
            assert other.value.status == 403
        assert done.status == "completed"
        assert done.decision is not None
        assert (done.decision.outcome, done.decision.decided_by) == ("declined", key.id)
        assert [(r.code, r.check, r.step, r.retryable) for r in done.decision.reasons] == [
            ("gray_copy", "review", "front", False)
        ]
        assert done.decision.review is not None
        assert (done.decision.review.explanation, done.decision.review.note) == ("A photo of a wall.", "!")
        assert done.decision.review.replaced == case.decision
        assert client.case(case.id) == done
        with VeridaskClient(server.url, secret) as device:
            seen = device.case(case.id).decision
            assert seen is not None
            assert (seen.outcome, seen.review) == ("declined", None)
        listed = client.cases(outcome="declined", limit=100).data
        assert case.id in [item.id for item in listed]
        bodies = [json.loads(taken.body) for taken in receiver.wait(2)]
        client.delete_webhook_endpoint(endpoint.id)
    assert [(body["type"], body["data"]["outcome"]) for body in bodies] == [
        ("case.in_review", "review"),
        ("case.completed", "declined"),
    ]
    assert bodies[1]["data"]["reasons"] == ["gray_copy"]
    assert "wall" not in json.dumps(bodies), "what a reviewer writes stays here"
    assert "photo of a wall" not in (server_folder / "server.log").read_text("utf-8")


GOOD: dict[str, Any] = {"outcome": "approved", "explanation": "So it is."}


@pytest.mark.cluster
@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "review"},
        {"explanation": " "},
        {"explanation": "x" * 1001},
        {"explanation": "a\x00b"},
        {"note": "x" * 4001},
        {"reasons": [{"code": "ugly"}]},
        {"reasons": [{"code": "gray_copy", "step": "side"}]},
        {"reasons": [{"code": "gray_copy"}] * 17},
        {"retake": ["front"]},
        {"outcome": "resubmission_requested"},
        {"outcome": "resubmission_requested", "retake": ["front"]},
        {"outcome": "resubmission_requested", "retake": ["front"], "reasons": [{"code": "dark_photo", "step": "back"}]},
        {"decided_by": "me"},
    ],
)
def test_a_malformed_review_is_refused(http: httpx.Client, client: VeridaskClient, change: dict[str, Any]) -> None:
    case = client.create("document")
    answer = http.post(f"/v1/cases/{case.id}/review", json={**GOOD, **change})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    answer = http.post(f"/v1/cases/{case.id}/review", json=GOOD)
    assert (answer.status_code, answer.json()["code"]) == (409, "case_not_in_review")
    client.cancel(case.id)
