"""The sandbox: every outcome and reason can be produced with the real graph and service, in sandbox profiles only."""

from __future__ import annotations

import inspect
import json
import re
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.case import verdict
from graphs.errors import ForcedError, MarkerError, ProfileError
from graphs.flow import NODES, nodes_for
from graphs.profile import get_profile, profiles
from graphs.reasons import REASONS
from graphs.records import CaseSpec, CheckResult, Decision, Step
from graphs.run import run_node
from graphs.sandbox import MARKER, POSSIBLE_REASONS, parse
from service.assembly import assembled
from service.cases.commands import NewCase
from service.client import ProblemError, VeridaskClient
from service.lifecycle.case import Case
from service.schemas.cases import CaseView
from tests.support.case_stores import new_case
from tests.support.data_folders import settings_in
from tests.support.pages import Page
from tests.support.receiver import Receiver

PROFILE = get_profile("sandbox")
POLICY = PROFILE.policy
NOT_GIVEN_YET = {"incorrect_side"}
"""Reasons of the policy that no check gives."""
EVERY = [(code, check) for check, says in POSSIBLE_REASONS.items() for code in says]
BY_EFFECT = {
    effect: [code for code in REASONS if POLICY.effects[code] == effect and code != "check_not_clear"]
    for effect in ("decline", "retake", "review")
}


def judged(marker: str, attempt: int = 1) -> tuple[Decision, dict[str, CheckResult]]:
    """The verdict and results for a marker, from the nodes of the graph without any media."""
    spec = CaseSpec("case_s", "sandbox", dict.fromkeys(PROFILE.steps, attempt), (), date(2026, 7, 1), marker)
    checks = [run_node(name, spec) for name, node in nodes_for(PROFILE).items() if node.placement.is_check]
    found = verdict(checks, spec)
    return found.decision, {check.name: check for check in found.checks}


def test_a_sandbox_check_can_say_what_the_check_itself_can_say() -> None:
    """Reasons are read from the checks' code: the sandbox must offer every reason that a check can give."""
    assert set(POSSIBLE_REASONS) == set(POLICY.checks)
    for name, says in POSSIBLE_REASONS.items():
        source = inspect.getsource(NODES[name].function)
        inside = set(re.findall(r'"([a-z_]+)"', source)) & set(REASONS)
        if "judge_failed_upload" in source:
            inside.add("undecodable_media")
        assert set(says) - NOT_GIVEN_YET == inside, name


def test_every_reason_that_the_service_knows_can_be_had() -> None:
    had = {code for code, _ in EVERY} | {r.code for r in judged("check_not_clear")[0].reasons}
    assert had == set(REASONS)


@pytest.mark.parametrize(("code", "check"), EVERY)
def test_each_reason_comes_from_each_check_that_gives_it(code: str, check: str) -> None:
    decision, checks = judged(f"{code}@{check}")
    assert [(r.code, r.check) for r in decision.reasons] == [(code, check)]
    assert checks[check].result == POSSIBLE_REASONS[check][code]
    assert checks[check].reasons[0].step in PROFILE.steps
    assert {other.result for name, other in checks.items() if name != check} == {"clear"}
    effect = POLICY.effects[code]
    wanted = {"decline": "declined", "retake": "resubmission_requested", "review": "review"}[effect]
    assert decision.outcome == (wanted if POLICY.checks[check].required or effect == "retake" else "approved")
    again = judged(f"{code}@{check}", attempt=2)[0].outcome
    assert again == ("approved" if effect == "retake" else decision.outcome), "a retake mends what can be mended"
    if effect == "retake":
        assert judged(f"{code}@{check}*3", attempt=3)[0].outcome == "review", "no attempts are left"


@pytest.mark.parametrize("outcome", ["approved", "declined", "resubmission_requested", "review"])
def test_each_outcome_has_a_word(outcome: str) -> None:
    assert judged(outcome)[0].outcome == outcome


@pytest.mark.parametrize(("marker", "error"), [("error", "ForcedError"), ("timeout", "TimeoutError")])
def test_a_check_can_fail(marker: str, error: str) -> None:
    for check in POLICY.checks:
        decision, checks = judged(f"{marker}@{check}")
        assert (checks[check].result, checks[check].properties) == ("error", {"error": error})
        required = POLICY.checks[check].required
        assert decision.outcome == ("review" if required else "approved")
        assert [(r.code, r.check) for r in decision.reasons] == ([("check_not_clear", check)] if required else [])
    with pytest.raises(ForcedError if marker == "error" else TimeoutError):
        judged(f"{marker}@verdict")


def test_several_marks_are_one_case() -> None:
    decision, checks = judged("gray_copy@recapture_back, blurred_photo , dark_photo,data_not_found")
    assert decision.outcome == "declined"
    assert {r.code for r in decision.reasons} == {"gray_copy", "blurred_photo", "dark_photo", "data_not_found"}
    assert [r.code for r in checks["quality_front"].reasons] == ["blurred_photo", "dark_photo"]


@given(st.text(max_size=500) | st.lists(st.sampled_from([*REASONS, "@", "*", ",", "match", "1", "error"])).map("".join))
def test_any_text_is_a_marker_or_is_refused(text: str) -> None:
    with suppress(MarkerError):
        assert all(mark.check in (*POLICY.checks, "verdict") for mark in parse(text, POLICY))


def test_profiles_that_are_no_sandbox_know_no_marker() -> None:
    assert [name for name, profile in profiles().items() if profile.sandbox] == ["sandbox"]
    assert Case(**{**vars(new_case()), "metadata": {MARKER: "approved"}}).spec.marker == ""
    spec = CaseSpec(
        "case_n", "standard", dict.fromkeys(PROFILE.steps, 1), (), date(2026, 7, 1), "error@verdict, approved"
    )
    assert verdict([], spec).decision.outcome == "review"


# --- over HTTP, on the cluster ---


def uploaded(client: VeridaskClient, case_id: str, video: bytes) -> None:
    for step in client.case(case_id).steps:
        if step.state != "received":
            client.upload(case_id, step.step, video, "video/mp4")


def ended(client: VeridaskClient, case_id: str) -> CaseView:
    end = time.monotonic() + 120
    while (view := client.case(case_id)).status in ("requires_input", "processing"):
        assert time.monotonic() < end, view
        time.sleep(0.05)
    return view


def codes(view: CaseView) -> list[str]:
    assert view.decision is not None
    return [reason.code for reason in view.decision.reasons]


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_every_reason_comes_out_of_the_running_service(client: VeridaskClient, video: bytes) -> None:
    """All reasons of one effect in one case, at most sixteen. Those to retake are at the steps or in the decision."""
    groups = {
        "declined": [BY_EFFECT["decline"]],
        "review": [BY_EFFECT["review"]],
        "resubmission_requested": [BY_EFFECT["retake"][:9], BY_EFFECT["retake"][9:]],
    }
    cases = {
        client.create("sandbox", metadata={MARKER: ",".join(part)}).id: (outcome, part)
        for outcome, parts in groups.items()
        for part in parts
    }
    for case_id in cases:
        uploaded(client, case_id, video)
    seen: set[str] = set()
    for case_id, (outcome, part) in cases.items():
        view = client.decided(case_id)
        assert view.decision is not None
        assert (view.decision.outcome, set(codes(view)), view.livemode) == (outcome, set(part), False)
        seen.update(codes(view))
        if outcome == "resubmission_requested":
            assert {reason.code for step in view.steps for reason in step.reasons} <= set(part)
            uploaded(client, case_id, video)
            assert (ended(client, case_id).status, codes(client.case(case_id))) == ("completed", [])
    failed = client.create("sandbox", metadata={MARKER: "timeout@match, error@verdict"})
    uploaded(client, failed.id, video)
    view = ended(client, failed.id)
    assert (view.status, codes(view), view.checks) == ("in_review", ["check_not_clear"], []), "the verdict never came"
    assert seen | set(codes(view)) == set(REASONS)


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_an_integrators_test_of_the_whole_way(client: VeridaskClient, http: httpx.Client, video: bytes) -> None:
    """A retake requested at once, a retake requested by a reviewer, an approval; and the webhooks for each."""
    with Receiver() as receiver:
        endpoint = client.create_webhook_endpoint(receiver.url)
        case = client.create("sandbox", metadata={MARKER: "dark_photo@quality_back, no_hologram_seen*1"})
        assert case.livemode is False
        client.upload(case.id, "back", video, "video/mp4")
        asked = client.wait(case.id)
        steps = {step.step: (step.state, [reason.code for reason in step.reasons]) for step in asked.steps}
        assert steps["back"] == ("retake", ["dark_photo"])
        uploaded(client, case.id, video)
        left = ended(client, case.id)
        assert (left.status, codes(left)) == ("in_review", ["no_hologram_seen"])
        again: list[tuple[str, Step]] = [("no_hologram_seen", "front")]
        opened = client.review(case.id, "resubmission_requested", "Tilt it.", reasons=again, retake=["front"])
        assert (opened.status, [s.state for s in opened.steps]) == (
            "requires_input",
            ["retake", "received", "received"],
        )
        assert opened.expires_at > left.expires_at
        with pytest.raises(ProblemError) as early:
            client.review(case.id, "approved", "Too early.")
        assert early.value.code == "case_not_in_review"
        client.upload(case.id, "front", video, "video/mp4")
        done = ended(client, case.id)
        assert (done.status, codes(done)) == ("completed", [])
        assert done.decision is not None
        assert (done.decision.outcome, done.decision.decided_by) == ("approved", "policy")
        assert {check.name for check in done.checks} == set(POLICY.checks)
        assert {check.result for check in done.checks} == {"clear"}
        hooks = [json.loads(hook.body) for hook in receiver.wait(7)]
        client.delete_webhook_endpoint(endpoint.id)
    assert [hook["type"].removeprefix("case.") for hook in hooks if hook["data"]["id"] == case.id] == [
        "requires_input",
        "requires_input",  # the back again, while the others are missing
        "processing",
        "in_review",
        "requires_input",
        "processing",
        "completed",
    ]
    assert not any(hook["data"]["livemode"] for hook in hooks)
    assert "Sandbox. Nothing was checked" in Page(client.report(case.id)).text
    listed = client.cases(profile="sandbox", limit=100).data
    assert {item.livemode for item in listed} == {False}
    reviewed = [event.data for event in client.events(case.id) if event.type == "decision"]
    assert [(data["outcome"], data.get("review", False)) for data in reviewed] == [
        ("review", False),
        ("resubmission_requested", True),
        ("approved", False),
    ]
    assert http.get(f"/v1/cases/{case.id}").json()["livemode"] is False


@pytest.mark.cluster
def test_a_marker_in_a_case_of_another_profile_is_metadata(client: VeridaskClient, picture: bytes) -> None:
    case = client.create("document", metadata={MARKER: "approved"})
    assert case.livemode is True
    client.upload(case.id, "front", picture, "image/jpeg")
    assert [reason.code for reason in client.wait(case.id).steps[0].reasons] == ["no_document_in_image"]
    client.cancel(case.id)


@pytest.mark.cluster
@pytest.mark.parametrize(
    "marker",
    [
        "ugly",
        "approved*2",
        "declined@match",
        "gray_copy@match",
        "gray_copy*0",
        "a,b",
        "error@nothing",
        "approved," * 17,
    ],
)
def test_a_marker_that_means_nothing_is_refused(http: httpx.Client, marker: str) -> None:
    """Otherwise a misspelt marker would be approved, and the integrator's test would pass wrongly."""
    answer = http.post("/v1/cases", json={"profile": "sandbox", "metadata": {MARKER: marker}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_sandbox_marker"), answer.text


@pytest.mark.cluster
async def test_a_service_takes_no_sandbox_cases_unless_it_is_told_to(cluster: str, tmp_path: Path) -> None:
    async with assembled(settings_in(tmp_path, scheduler=cluster)) as service:
        assert [profile.name for profile in service.cases.offered()] == [
            n for n, profile in profiles().items() if not profile.sandbox
        ]
        with pytest.raises(ProfileError, match="VERIDASK_SANDBOX"):
            await service.cases.create(NewCase("sandbox", None, {}), None, "test")
