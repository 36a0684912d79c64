"""The life of a case as tables: what happens, and what must come of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.reasons import reason
from graphs.records import CheckResult, Decision, Outcome, Step, Verdict
from service.errors import CaseClosedError, StepTakenError, UnknownStepError
from service.lifecycle.case import Case, Change, StepState
from service.lifecycle.transitions import accept, cancel, decide, expire, judge_quality, require_wanted, without_result
from service.vocabulary import Status
from tests.support.case_stores import NOW, bare_case

LATER = NOW + timedelta(minutes=1)
BLURRED = reason("blurred_photo", "quality_front", "front", retryable=True)
REJECTED = CheckResult("quality_front", "rejected", (BLURRED,))


def case(**steps: StepState) -> Case:
    return bare_case({"front": StepState(), "face": StepState(), **steps})  # type: ignore[dict-item]


def complete(front: int = 1, face: int = 1) -> Case:
    """All steps received, nothing decided."""
    received: dict[Step, StepState] = {"front": StepState("received", front), "face": StepState("received", face)}
    return replace(case(), steps=received, status="processing", last_received_at=NOW)


def verdict(outcome: Outcome, *retake: Step) -> Verdict:
    reasons = tuple(reason("blurred_photo", f"quality_{step}", step, retryable=True) for step in retake)
    return Verdict(Decision(outcome, reasons, "standard-1", retake), (REJECTED,))


def test_steps_are_taken_in_any_order_and_the_last_one_starts_processing() -> None:
    for first, second in (("front", "face"), ("face", "front")):
        half = accept(case(), first, LATER, "replica_a")
        assert half.case.status == "requires_input"
        whole = accept(half.case, second, LATER, "replica_a")
        assert whole.case.status == "processing"
        assert whole.case.last_received_at == LATER
        assert [event.type for event in whole.events] == ["step", "status"]


@pytest.mark.parametrize("status", ["completed", "in_review", "canceled", "expired"])
def test_a_closed_case_takes_nothing(status: Status) -> None:
    closed = replace(complete(), status=status)
    with pytest.raises(CaseClosedError):
        accept(closed, "front", NOW, "replica_a")
    assert judge_quality(closed, "front", 1, REJECTED, NOW) is None
    assert decide(closed, closed.attempts, verdict("approved"), NOW) is None
    assert expire(closed, NOW + timedelta(days=1)) is None


def test_a_step_is_taken_once_and_an_unknown_one_never() -> None:
    with pytest.raises(StepTakenError):
        require_wanted(accept(case(), "front", NOW, "replica_a").case, "front")
    with pytest.raises(UnknownStepError):
        require_wanted(case(), "back")


def test_bad_quality_asks_for_a_retake_at_once() -> None:
    change = judge_quality(accept(case(), "front", NOW, "replica_a").case, "front", 1, REJECTED, LATER)
    assert change is not None
    assert change.case.steps["front"] == StepState("retake", 1, (BLURRED,))
    again = accept(change.case, "front", LATER, "replica_a").case
    assert again.steps["front"] == StepState("received", 2)
    assert again.attempts == {"front": 2, "face": 1}


def test_a_step_tells_only_what_taking_it_again_can_mend() -> None:
    """The person was told of an unseen hologram as a reason to film the front again."""
    unseen = reason("no_hologram_seen", "hologram_front", "front")
    asked = decide(
        complete(),
        {"front": 1, "face": 1},
        Verdict(Decision("resubmission_requested", (BLURRED, unseen), "standard-1", ("front",)), (REJECTED,)),
        LATER,
    )
    assert asked is not None
    assert asked.case.steps["front"] == StepState("retake", 1, (BLURRED,))


def test_bad_quality_of_the_last_step_stops_processing() -> None:
    change = judge_quality(complete(), "front", 1, REJECTED, LATER)
    assert change is not None
    assert change.case.status == "requires_input"
    assert [event.type for event in change.events] == ["step", "status"]


@pytest.mark.parametrize(
    ("attempts", "attempt", "result"),
    [
        (1, 1, replace(REJECTED, result="clear")),
        (1, 1, replace(REJECTED, reasons=(replace(BLURRED, retryable=False),))),
        (2, 1, REJECTED),  # of an attempt that was replaced since
        (3, 3, REJECTED),  # no attempts left: the decision says what that means
    ],
)
def test_quality_that_changes_nothing(attempts: int, attempt: int, result: CheckResult) -> None:
    assert judge_quality(complete(front=attempts), "front", attempt, result, NOW) is None


@pytest.mark.parametrize(
    ("outcome", "status"), [("approved", "completed"), ("declined", "completed"), ("review", "in_review")]
)
def test_a_final_decision_ends_the_case(outcome: Outcome, status: Status) -> None:
    change = decide(complete(), {"front": 1, "face": 1}, verdict(outcome), LATER)
    assert change is not None
    assert change.case.status == status
    assert change.case.recorded is not None
    assert (change.case.recorded.decision.outcome, change.case.recorded.decided_at) == (outcome, LATER)
    assert decide(change.case, {"front": 1, "face": 1}, verdict("declined"), LATER) is None


def test_a_decision_on_replaced_or_missing_uploads_is_dropped() -> None:
    assert decide(complete(front=2), {"front": 1, "face": 1}, verdict("approved"), NOW) is None
    half = accept(case(), "front", NOW, "replica_a").case
    assert decide(half, {"front": 1, "face": 1}, verdict("approved"), NOW) is None


def test_a_resubmission_opens_the_steps_it_names_and_shows_the_decision_until_they_came() -> None:
    change = decide(complete(), {"front": 1, "face": 1}, verdict("resubmission_requested", "front", "face"), NOW)
    assert change is not None
    asked = change.case
    assert asked.status == "requires_input"
    assert {name: step.state for name, step in asked.steps.items()} == {"front": "retake", "face": "retake"}
    assert [r.step for r in asked.steps["front"].reasons] == ["front"]
    assert decide(asked, {"front": 1, "face": 1}, verdict("approved"), NOW) is None
    half = accept(asked, "front", LATER, "replica_a").case
    assert half.recorded == asked.recorded
    whole = accept(half, "face", LATER, "replica_a").case
    assert (whole.status, whole.recorded, whole.checks) == ("processing", None, ())
    final = decide(whole, {"front": 2, "face": 2}, verdict("approved"), LATER)
    assert final is not None
    assert final.case.status == "completed"


def test_a_resubmission_without_attempts_left_completes_the_case() -> None:
    change = decide(complete(front=3), {"front": 3, "face": 1}, verdict("resubmission_requested", "front"), NOW)
    assert change is not None
    assert change.case.status == "completed"
    assert change.case.steps["front"].state == "received"


def test_a_graph_without_an_end_is_for_a_human() -> None:
    change = decide(complete(), {"front": 1, "face": 1}, without_result("standard-1"), NOW, decided_by="deadline")
    assert change is not None
    assert change.case.status == "in_review"
    assert change.case.recorded is not None
    assert [r.code for r in change.case.recorded.decision.reasons] == ["check_not_clear"]


def test_cancel_and_expire() -> None:
    canceled = cancel(complete(), NOW)
    assert canceled.case.status == "canceled"
    assert cancel(canceled.case, NOW) == Change(canceled.case, ())
    with pytest.raises(CaseClosedError):
        cancel(replace(complete(), status="completed"), NOW)
    over = NOW + timedelta(hours=1)
    expired = expire(case(), over)
    assert expired is not None
    assert expired.case.status == "expired"
    assert expire(case(), over - timedelta(seconds=1)) is None
    assert expire(complete(), over) is None, "its decision is on the way"


HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), st.sampled_from(["front", "face"])),
        st.tuples(st.just("bad quality"), st.sampled_from(["front", "face"])),
        st.tuples(st.just("decide"), st.sampled_from(["approved", "declined", "review", "resubmission_requested"])),
        st.tuples(st.just("cancel"), st.just("")),
        st.tuples(st.just("expire"), st.just("")),
    ),
    max_size=25,
)


@given(HAPPENINGS)
def test_whatever_happens_the_case_stays_consistent(happenings: list[tuple[str, str]]) -> None:
    now, decided = case(), 0
    for what, which in happenings:
        before = now
        change: Change | None = None
        try:
            if what == "upload":
                change = accept(now, which, LATER, "replica_a")
            elif what == "bad quality":
                change = judge_quality(now, which, now.steps[which].attempts, REJECTED, LATER)  # type: ignore[arg-type, index]
            elif what == "decide":
                change = decide(now, now.attempts, verdict(which, "front"), LATER)  # type: ignore[arg-type]
                decided += change is not None and change.case.status in ("completed", "in_review")
            else:
                change = cancel(now, LATER) if what == "cancel" else expire(now, NOW + timedelta(hours=2))
        except (CaseClosedError, StepTakenError):
            pass
        now = change.case if change else now
        assert before.is_open or now == before, "a closed case does not change"
        assert all(0 <= step.attempts <= now.max_attempts for step in now.steps.values())
        assert all(now.steps[name].attempts >= step.attempts for name, step in before.steps.items())
        assert (now.status == "processing") == (
            now.is_open and all(step.state == "received" for step in now.steps.values())
        )
    assert decided <= 1
