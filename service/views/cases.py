"""Views of cases, uploads and profiles."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.flow import steps_of
from graphs.profile import Profile, profiles
from graphs.records import CheckResult, Reason, Step
from service.lifecycle.case import Case, Recorded, Review, StepState
from service.lifecycle.json_values import jsonable
from service.schemas.cases import (
    CasePage,
    CaseView,
    CheckView,
    DecisionView,
    ListedCaseView,
    PersonsReview,
    ReasonView,
    RedactionView,
    StepView,
    TimingsView,
    UploadView,
)
from service.schemas.profiles import ProfileView
from service.store.listing import ListedCase
from service.store.rows import StoredEvent, Upload


def reason_view(reason: Reason) -> ReasonView:
    """The view of a reason."""
    return ReasonView(**vars(reason))


def step_view(step: Step, state: StepState, case: Case) -> StepView:
    """The view of a step, with the kinds of media that its profile accepts."""
    profile = profiles().get(case.profile)  # this build may lack the profile of an old case
    return StepView(
        step=step,
        accepts=list(profile.accepts.get(step, ())) if profile else [],  # type: ignore[arg-type]
        state=state.state,
        attempts=state.attempts,
        attempts_left=case.max_attempts - state.attempts,
        reasons=[reason_view(reason) for reason in state.reasons],
    )


def check_view(check: CheckResult) -> CheckView:
    """The view of a check with everything that it found."""
    return CheckView.model_validate(jsonable(check))


def checks_so_far(events: Sequence[StoredEvent]) -> list[CheckView]:
    """The checks finished so far in a case without a decision, from its events. An upload removes those of its step."""
    known: dict[str, CheckView] = {}
    for event in events:
        if event.type == "step" and event.data["state"] == "received":
            known = {name: view for name, view in known.items() if event.data["step"] not in steps_of(name)}
        elif event.type == "check":
            fields = {key: event.data[key] for key in ("result", "started_at", "duration_ms", "worker")}
            known[event.data["check"]] = CheckView.model_validate({"name": event.data["check"], **fields})
    return list(known.values())


def decision_view(recorded: Recorded) -> DecisionView:
    """The view of a recorded decision, with its review if a person decided."""
    decision, review = recorded.decision, recorded.review
    return DecisionView(
        outcome=decision.outcome,
        reasons=[reason_view(reason) for reason in decision.reasons],
        retake=list(decision.retake),
        policy_version=decision.policy_version,
        decided_at=recorded.decided_at,
        decided_by=recorded.decided_by,
        review=_review_view(review) if review else None,
    )


def _review_view(review: Review) -> PersonsReview:
    opinion = review.opinion
    return PersonsReview(explanation=opinion.explanation, note=opinion.note, replaced=decision_view(review.replaced))


def case_view(case: Case, so_far: Sequence[StoredEvent] = ()) -> CaseView:
    """The view of a case. so_far: its events, from which the checks are shown until there is a decision."""
    recorded = case.recorded
    checks = checks_so_far(so_far) if recorded is None else [check_view(check) for check in case.checks]
    redacted = case.status == "redacted"
    return CaseView(
        id=case.id,
        status=case.status,
        profile=case.profile,
        livemode=case.livemode,
        client_reference_id=case.client_reference_id,
        metadata=dict(case.metadata),
        challenge=list(case.challenge),
        steps=[step_view(step, state, case) for step, state in case.steps.items()],
        checks=checks,
        decision=decision_view(recorded) if recorded else None,
        timings=_timings_view(case),
        redaction=RedactionView(requested_at=case.updated_at, completed_at=case.erased_at) if redacted else None,
        created_at=case.created_at,
        updated_at=case.updated_at,
        expires_at=case.expires_at,
    )


def _timings_view(case: Case) -> TimingsView:
    """The times of the automatic decision. A review does not change how long the person waited for it."""
    recorded = case.recorded
    reviewed = recorded is not None and recorded.review is not None
    automatic = recorded.review.replaced if recorded and recorded.review else recorded
    waited = None
    if automatic is not None and case.last_received_at is not None:
        waited = (automatic.decided_at - case.last_received_at).total_seconds() * 1000
    return TimingsView(
        last_upload_at=case.last_received_at,
        decided_at=automatic.decided_at if automatic else None,
        decision_ms=waited,
        reviewed_at=recorded.decided_at if recorded and reviewed else None,
    )


def without_review(view: CaseView) -> CaseView:
    """The same view for the person's device: without what reviewers wrote."""
    if view.decision is None:
        return view
    return view.model_copy(update={"decision": view.decision.model_copy(update={"review": None})})


def upload_view(upload: Upload) -> UploadView:
    """The view of an accepted upload."""
    return UploadView(**{name: getattr(upload, name) for name in UploadView.model_fields})


def case_page(cases: Sequence[ListedCase], more: bool) -> CasePage:
    """The view of one page of cases. more: whether there are older ones."""
    return CasePage(
        data=[ListedCaseView.model_validate(vars(case)) for case in cases],
        next_cursor=cases[-1].id if more else None,
    )


def profile_view(profile: Profile) -> ProfileView:
    """The view of a profile."""
    return ProfileView(
        name=profile.name,
        title=profile.title,
        livemode=not profile.sandbox,
        steps=list(profile.steps),
        accepts={step: list(kinds) for step, kinds in profile.accepts.items()},  # type: ignore[arg-type]
        challenge_actions=profile.challenge_actions,
        open_seconds=profile.open_seconds,
        retention_days=profile.retention_days,
        max_attempts=profile.policy.max_attempts,
        policy_version=profile.policy.version,
    )
