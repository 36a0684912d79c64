"""The life of a case as pure transitions: each takes a case and what happened, and returns the new case and its events.

    requires_input ⇄ processing → completed | in_review ─┐
                 └────────┴─────→ canceled | expired ────┴→ redacted

A review completes a case that is `in_review`, or reopens it for a retake (→ `requires_input`).

No I/O: `service.store.cases` applies a transition in one transaction, and `service.cases` decides when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from graphs.reasons import reason
from graphs.records import CheckResult, Decision, Step, Verdict
from service.errors import (
    CaseClosedError,
    CaseOpenError,
    NoAttemptsError,
    NotInReviewError,
    StepTakenError,
    UnknownStepError,
)
from service.lifecycle.case import Case, Change, Event, Opinion, Recorded, Review, StepState
from service.vocabulary import Status


def _changed(before: Case, now: datetime, *events: Event, **fields: Any) -> Change:
    after = replace(before, updated_at=now, **fields)
    if after.status != before.status:
        events = (*events, Event("status", {"status": after.status}))
    return Change(after, events)


def _status(steps: Mapping[Step, StepState]) -> Status:
    return "processing" if all(s.state == "received" for s in steps.values()) else "requires_input"


def _step_event(name: Step, step: StepState) -> Event:
    reasons = [{"code": r.code, "check": r.check, "message": r.message} for r in step.reasons]
    return Event("step", {"step": name, "state": step.state, "attempt": step.attempts, "reasons": reasons})


def require_wanted(case: Case, name: str) -> Step:
    """Check that the case accepts an upload for this step now.

    Raises UnknownStepError, CaseClosedError or StepTakenError.
    """
    if not case.is_open:
        raise CaseClosedError(f"The case is {case.status} and accepts no more uploads.")
    step = next((known for known in case.steps if known == name), None)
    if step is None:
        raise UnknownStepError(f"Profile {case.profile} has the steps {', '.join(case.steps)}. Use one of these.")
    if case.steps[step].state == "received":
        raise StepTakenError(f"Step {step} already has its upload, and no retake is requested.")
    return step


def accept(case: Case, name: str, now: datetime, replica: str) -> Change:
    """An upload of the step was stored by the API process `replica`. Raises as `require_wanted`."""
    step = require_wanted(case, name)
    received = StepState("received", case.steps[step].attempts + 1)
    steps = {**case.steps, step: received}
    status = _status(steps)
    # A decision that requested this retake no longer holds once every step is uploaded again.
    recorded = None if status == "processing" else case.recorded
    checks = () if recorded is None else case.checks
    return _changed(
        case,
        now,
        _step_event(step, received),
        steps=steps,
        status=status,
        last_received_at=now,
        recorded=recorded,
        checks=checks,
        replica=replica,
    )


def judge_quality(case: Case, step: Step, attempt: int, result: CheckResult, now: datetime) -> Change | None:
    """The quality of an upload is known: if it must and can be retaken, request that at once. None: nothing changes."""
    state = case.steps[step]
    reasons = tuple(r for r in result.reasons if r.retryable)
    current = case.is_open and state.state == "received" and state.attempts == attempt
    if result.result != "rejected" or not reasons or not current or attempt >= case.max_attempts:
        return None
    retake = StepState("retake", attempt, reasons)
    return _changed(case, now, _step_event(step, retake), steps={**case.steps, step: retake}, status="requires_input")


def decide(
    case: Case, attempts: Mapping[Step, int], verdict: Verdict, now: datetime, *, decided_by: str = "policy"
) -> Change | None:
    """The graph of these attempts has finished. None if its decision is not needed: the case is closed, a step was
    uploaded again since, or these attempts are already decided. So each decision is recorded once.
    """
    decided = case.recorded is not None and case.recorded.attempts == attempts
    missing = any(state.attempts == 0 for state in case.steps.values())
    if not case.is_open or attempts != case.attempts or decided or missing:
        return None
    decision = verdict.decision
    recorded = Recorded(decision, now, decided_by, dict(attempts))
    steps = dict(case.steps)
    events = [Event("decision", {"outcome": decision.outcome, "reasons": [r.code for r in decision.reasons]})]
    status: Status = "in_review" if decision.outcome == "review" else "completed"
    again = [step for step in decision.retake if step in steps]
    may_retake = bool(again) and all(steps[step].attempts < case.max_attempts for step in again)
    if decision.outcome == "resubmission_requested" and may_retake:
        status = "requires_input"
        for step in again:
            if steps[step].state == "retake":
                continue  # the quality check has requested it already, with its own reasons
            reasons = tuple(r for r in decision.reasons if r.retryable and r.step in (step, None))
            steps[step] = StepState("retake", steps[step].attempts, reasons)
            events.append(_step_event(step, steps[step]))
    return _changed(case, now, *events, steps=steps, status=status, recorded=recorded, checks=verdict.checks)


def without_result(policy_version: str) -> Verdict:
    """The verdict for a case whose graph cannot finish: review, because missing checks never count as clear."""
    return Verdict(Decision("review", (reason("check_not_clear", "case", None),), policy_version), ())


def review(case: Case, opinion: Opinion, by: str, now: datetime, expires_at: datetime) -> Change:
    """A reviewer decides a case that is in review. by: the id of the reviewer's API key. expires_at: until when steps
    to be retaken may be uploaded. The same decision by the same key changes nothing.

    Raises NotInReviewError; UnknownStepError or NoAttemptsError for steps that cannot be retaken.
    """
    before, retake = case.recorded, opinion.retake
    if before is not None and before.review is not None and (before.review.opinion, before.decided_by) == (opinion, by):
        return Change(case, ())
    if case.status != "in_review" or before is None:
        raise NotInReviewError(f"The case is {case.status}. Only a case in review can be decided by a reviewer.")
    if unknown := [step for step in retake if step not in case.steps]:
        raise UnknownStepError(
            f"Profile {case.profile} has no step {', '.join(unknown)}. Its steps are {', '.join(case.steps)}."
        )
    if spent := [step for step in retake if case.steps[step].attempts >= case.max_attempts]:
        raise NoAttemptsError(
            f"No attempts are left for {', '.join(spent)}. Decide without asking for these steps again."
        )
    again: dict[Step, StepState] = {}
    for step in retake:
        reasons = tuple(r for r in opinion.reasons if r.step in (step, None))
        again[step] = StepState("retake", case.steps[step].attempts, reasons)
    decision = Decision(opinion.outcome, opinion.reasons, before.decision.policy_version, retake)
    data = {"outcome": opinion.outcome, "reasons": [r.code for r in opinion.reasons], "review": True}
    return _changed(
        case,
        now,
        Event("decision", data),
        *(_step_event(step, state) for step, state in again.items()),
        steps={**case.steps, **again},
        status="requires_input" if again else "completed",
        recorded=Recorded(decision, now, by, before.attempts, Review(opinion, before)),
        expires_at=max(case.expires_at, expires_at) if again else case.expires_at,
    )


def cancel(case: Case, now: datetime) -> Change:
    """The customer cancels the case. Raises CaseClosedError if it has already ended in another way."""
    if case.status == "canceled":
        return Change(case, ())
    if not case.is_open:
        raise CaseClosedError(f"The case is {case.status} and cannot be canceled any more.")
    return _changed(case, now, status="canceled")


def redact(case: Case, now: datetime) -> Change | None:
    """Remove all personal data; what remains is that the case existed, and its times. None if it was redacted before.

    Raises CaseOpenError for a case that is still open.
    """
    if case.status == "redacted":
        return None
    if case.is_open:
        raise CaseOpenError(f"The case is {case.status}. Cancel it first, then redact it.")
    return _changed(
        case,
        now,
        status="redacted",
        client_reference_id=None,
        metadata={},
        challenge=(),
        steps={},
        recorded=None,
        checks=(),
    )


def expire(case: Case, now: datetime) -> Change | None:
    """The case has expired. A case with all its uploads does not expire: its decision is being made."""
    if case.status != "requires_input" or now < case.expires_at:
        return None
    return _changed(case, now, status="expired")
