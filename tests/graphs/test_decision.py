"""Combine and decide, as tables: no cluster, no I/O."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.combine import combine
from graphs.decision import decide
from graphs.profile import CheckPolicy, Policy, get_profile
from graphs.reasons import REASONS, reason
from graphs.records import CheckResult, Decision, ResultKind, Step

POLICY = get_profile("standard").policy
FIRST: dict[Step, int] = {"front": 1, "back": 1, "face": 1}
LAST: dict[Step, int] = {"front": 1, "back": POLICY.max_attempts, "face": 1}


def step_of(check: str) -> Step | None:
    step: Step | None = next((s for s in FIRST if check.endswith(s)), None)
    return step


def judged(check: str, kind: ResultKind, *codes: str, step: Step | None = None) -> CheckResult:
    reasons = tuple(reason(code, check, step or step_of(check)) for code in codes)
    return CheckResult(name=check, result=kind, reasons=reasons)


def decided(*changed: CheckResult, attempts: dict[Step, int] = FIRST, policy: Policy = POLICY) -> Decision:
    by_name = {name: CheckResult(name=name, result="clear") for name in policy.checks}
    by_name |= {result.name: result for result in changed}
    return decide(combine(by_name.values(), policy), policy, attempts)


def test_all_clear_is_approved() -> None:
    assert decided() == Decision("approved", (), POLICY.version)


@pytest.mark.parametrize(
    ("changed", "outcome", "codes", "retake"),
    [
        ([judged("validity_back", "rejected", "document_expired")], "declined", ["document_expired"], ()),
        ([judged("match", "rejected", "selfie_face_mismatch", step="face")], "declined", ["selfie_face_mismatch"], ()),
        ([judged("quality_back", "rejected", "blurred_photo")], "resubmission_requested", ["blurred_photo"], ("back",)),
        (
            [
                judged("quality_back", "rejected", "blurred_photo"),
                judged("validity_back", "rejected", "document_expired"),
            ],
            "resubmission_requested",
            ["blurred_photo", "document_expired"],
            ("back",),
        ),
        (
            [judged("quality_back", "rejected", "blurred_photo"), judged("recapture_front", "rejected", "gray_copy")],
            "declined",
            ["gray_copy", "blurred_photo"],
            (),
        ),
        ([judged("hologram_front", "caution", "no_hologram_seen")], "review", ["no_hologram_seen"], ()),
        ([judged("recapture_front", "caution", "gray_copy")], "review", ["gray_copy"], ()),
        ([judged("barcode_back", "caution", "barcode_unreadable")], "approved", ["barcode_unreadable"], ()),
        ([judged("barcode_back", "error")], "approved", [], ()),
        ([judged("text_front", "unidentified")], "review", ["check_not_clear"], ()),
        ([judged("text_front", "error")], "review", ["check_not_clear"], ()),
    ],
)
def test_outcomes(changed: list[CheckResult], outcome: str, codes: list[str], retake: tuple[Step, ...]) -> None:
    decision = decided(*changed)
    assert decision.outcome == outcome
    assert [found.code for found in decision.reasons] == codes
    assert decision.retake == retake


def test_without_attempts_left_a_bad_picture_goes_to_review() -> None:
    assert decided(judged("quality_back", "rejected", "blurred_photo"), attempts=LAST).outcome == "review"


def test_two_bad_steps_are_both_asked_for() -> None:
    decision = decided(
        judged("quality_back", "rejected", "blurred_photo"), judged("quality_face", "rejected", "no_face_in_video")
    )
    assert decision.retake == ("back", "face")
    assert all(found.retryable for found in decision.reasons)


@pytest.mark.parametrize("name", [name for name, held in POLICY.checks.items() if held.required])
def test_a_missing_required_check_never_approves(name: str) -> None:
    results = [CheckResult(name=other, result="clear") for other in POLICY.checks if other != name]
    tree = combine(results, POLICY)
    assert next(result for result in tree if result.name == name).result == "not_run"
    assert decide(tree, POLICY, FIRST).outcome == "review"


kinds: list[ResultKind] = ["clear", "caution", "rejected", "unidentified", "error", "not_run"]


@given(
    st.dictionaries(
        st.sampled_from(sorted(POLICY.checks)), st.tuples(st.sampled_from(kinds), st.sampled_from(sorted(REASONS)))
    )
)
def test_approved_means_every_required_check_is_clear(found: dict[str, tuple[ResultKind, str]]) -> None:
    results = [judged(name, kind, *([code] if kind != "clear" else [])) for name, (kind, code) in found.items()]
    tree = combine(results, POLICY)
    decision = decide(tree, POLICY, FIRST)
    if decision.outcome == "approved":
        assert all(result.result == "clear" for result in tree if POLICY.checks[result.name].required)
    if decision.outcome == "declined":
        assert POLICY.effects[decision.reasons[0].code] == "decline"
    assert (decision.outcome == "resubmission_requested") == bool(decision.retake)
    assert [result.name for result in tree] == list(POLICY.checks)


def test_the_order_of_the_policy_is_the_order_of_the_answer() -> None:
    policy = dataclasses.replace(POLICY, checks={"b": CheckPolicy(True, {}), "a": CheckPolicy(True, {})})
    tree = combine([CheckResult(name="a", result="clear"), CheckResult(name="b", result="clear")], policy)
    assert [result.name for result in tree] == ["b", "a"]
