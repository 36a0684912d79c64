"""Shadows rerun the checks that their policy changes, decide nothing, and are compared with the live policy."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import httpx
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from graphs.case import build
from graphs.errors import ProfileError
from graphs.profile import get_profile, parse_profile, profiles
from graphs.reasons import reason
from graphs.records import CaseSpec, CheckResult, Outcome, Step
from graphs.shadow import Difference, ShadowVerdict, judged_again, shadow_verdict
from service.client import VeridaskClient
from service.lifecycle.transitions import cancel
from service.server.local import Running
from service.store.cases import CaseStore
from service.store.shadows import Comparison, ShadowFilter, ShadowStore
from service.views.shadows import shadow_view
from tests.support.case_stores import NOW, created
from tests.support.scenario_films import STEPS

SPEC = CaseSpec("case_01", "recorded", {"front": 1, "back": 1, "face": 1}, (), date(2026, 11, 22))
PROFILE = get_profile("recorded")
NAME, STRICT = next(iter(PROFILE.shadows.items()))
CLEAR = [CheckResult(name, "clear") for name in PROFILE.policy.checks]


def raw(patch: Mapping[str, Any]) -> dict[str, Any]:
    """The standard profile with a shadow."""
    standard = json.loads((files("graphs") / "profiles" / "standard.json").read_text("utf-8"))
    return {**standard, "shadows": {"other": {"version": "other-1", **patch}}}


def test_a_shadow_is_a_patch_of_its_profiles_policy() -> None:
    assert STRICT.checks["match"].thresholds == {"max_distance": 0.5}
    assert {n: c for n, c in STRICT.checks.items() if n != "match"} == {
        n: c for n, c in PROFILE.policy.checks.items() if n != "match"
    }
    assert judged_again(PROFILE, STRICT) == ("match",)


def test_a_shadow_judges_again_what_its_policy_changes() -> None:
    rule = parse_profile(raw({"checks": {"hologram_front": {"required": False}}}))
    assert judged_again(rule, rule.shadows["other"]) == (), "a rule of decision alone wants no check again"
    lenient = raw({"effects": {"retake": ["dark_photo"], "review": _effects("retake", "review", but="dark_photo")}})
    profile = parse_profile(lenient)
    again = set(judged_again(profile, profile.shadows["other"]))
    assert again == {"quality_front", "quality_back", "quality_face"}, "they say which reasons are retaken"


def _effects(*effects: str, but: str = "") -> list[str]:
    return [
        code for code, effect in get_profile("standard").policy.effects.items() if effect in effects and code != but
    ]


@pytest.mark.parametrize(
    "patch",
    [
        {"checks": {"mtach": {"required": True, "thresholds": {}}}},
        {"checks": {"match": {"thresholds": {"max_distanec": 0.5}}}},
        {"checks": {"match": None}},
        {"checks": {"match": {"thresholds": {"max_distance": "near"}}}},
        {"effects": {"review": ["no such reason"]}},
        {},
        {"version": "standard-4", "checks": {"match": {"thresholds": {"max_distance": 0.5}}}},
    ],
)
def test_a_shadow_that_is_misspelt_refuses_to_start(patch: dict[str, Any]) -> None:
    with pytest.raises(ProfileError):
        parse_profile(raw(patch))


def test_a_shadow_has_a_name_for_keys() -> None:
    patch = {"version": "a", "checks": {"match": {"required": False}}}
    parse_profile({**raw({}), "shadows": {"a_b": patch}})
    with pytest.raises(ProfileError, match="no name of a shadow"):
        parse_profile({**raw({}), "shadows": {"a-b": patch}})


def test_the_graph_has_tasks_for_what_a_shadow_changes_alone() -> None:
    assert [name for name, profile in profiles().items() if profile.shadows] == ["recorded"]
    graph = build(SPEC)
    assert {str(key) for key in graph.to_dict() if "~" in str(key)} == {
        f"match~{NAME}-case_01-front1.face1",
        f"verdict~{NAME}-case_01-front1.back1.face1",
    }
    priorities = {
        str(key).split("-")[0]: (layer.annotations or {}).get("priority", 0)
        for layer in graph.layers.values()
        for key in layer.keys()  # noqa: SIM118  a layer is typed as no iterable
    }
    assert priorities[f"verdict~{NAME}"] < priorities["verdict"] == priorities["match"]


def test_a_shadow_is_compared_with_what_is_decided() -> None:
    away = CheckResult("match", "rejected", (reason("selfie_face_mismatch", "match", "face"),))
    told = shadow_verdict(CLEAR, [away], NAME, SPEC)
    assert (told.live_outcome, told.outcome, told.failed) == ("approved", "declined", False)
    assert (told.version, told.reasons) == (STRICT.version, ("selfie_face_mismatch",))
    assert told.differences == (Difference("match", "clear", "rejected"),)
    assert shadow_verdict(CLEAR, [CheckResult("match", "clear")], NAME, SPEC).differences == ()


def test_a_shadow_that_fails_agrees_with_nobody() -> None:
    assert shadow_verdict(CLEAR, [CheckResult("match", "error")], NAME, SPEC).failed
    both = [result if result.name != "match" else CheckResult("match", "error") for result in CLEAR]
    assert not shadow_verdict(both, [CheckResult("match", "error")], NAME, SPEC).failed, "the live one failed as well"


def came_to(live: Outcome, outcome: Outcome, *, failed: bool = False) -> ShadowVerdict:
    differences = (Difference("match", "clear", "rejected"),) if live != outcome else ()
    return ShadowVerdict(NAME, STRICT.version, live, (), outcome, ("selfie_face_mismatch",), differences, failed)


async def test_shadows_are_counted_once_and_by_their_outcomes(store: CaseStore) -> None:
    kept, cases = ShadowStore(store.database), [await created(store) for _ in range(4)]
    specs = [replace(SPEC, case_id=case.id) for case in cases]
    verdicts = [
        came_to("approved", "approved"),
        came_to("approved", "declined"),
        came_to("approved", "declined", failed=True),
        came_to("review", "declined"),
    ]
    for spec, verdict in zip(specs, verdicts, strict=True):
        assert await kept.add(spec, verdict)
        assert not await kept.add(spec, verdict), "another process has heard of it as well"
    assert await kept.add(replace(specs[0], attempts={**SPEC.attempts, "face": 2}), verdicts[0]), "a retake"
    [one] = await kept.comparisons(ShadowFilter())
    assert (one.profile, one.shadow, one.version) == ("recorded", NAME, STRICT.version)
    assert (one.compared, one.agreeing, one.failed) == (4, 2, 1)
    assert one.outcomes == {("approved", "approved"): 2, ("approved", "declined"): 1, ("review", "declined"): 1}
    assert one.checks == {("match", "clear", "rejected"): 2}
    assert [each.case_id for each in one.differing] == [cases[3].id, cases[1].id], "the newest first"
    assert one.reviewed == {}
    view = shadow_view(one)
    assert view.agreement is not None
    assert view.agreement[0] < 0.5 < view.agreement[1]
    assert await kept.comparisons(ShadowFilter(profile="standard")) == []
    assert await kept.comparisons(ShadowFilter(created_from=NOW + timedelta(seconds=1))) == []
    assert len(await kept.comparisons(ShadowFilter("recorded", NOW, NOW + timedelta(seconds=1)))) == 1


async def test_nothing_of_a_shadow_is_left_of_a_redacted_case(store: CaseStore) -> None:
    kept, case = ShadowStore(store.database), await created(store)
    spec = replace(SPEC, case_id=case.id)
    assert await kept.add(spec, came_to("approved", "declined"))
    await store.change(case.id, lambda now: cancel(now, NOW))
    await store.erasures.redact(case.id, NOW, "test")
    assert await kept.comparisons(ShadowFilter()) == []
    assert not await kept.add(replace(spec, attempts={"front": 2}), came_to("approved", "approved"))
    assert not await kept.add(replace(spec, case_id="case_" + "0" * 26), came_to("approved", "approved"))


OUTCOMES = st.sampled_from(["approved", "declined", "resubmission_requested", "review"])


@given(st.dictionaries(st.tuples(OUTCOMES, OUTCOMES), st.integers(1, 1000)))
def test_agreement_is_a_share_of_what_was_compared(outcomes: dict[tuple[str, str], int]) -> None:
    one = Comparison("recorded", NAME, "v")
    one.outcomes.update(outcomes)
    view = shadow_view(one)
    assert view.compared == sum(each.count for each in view.outcomes)
    assert view.agreeing == sum(each.count for each in view.outcomes if each.live == each.shadow)
    assert (view.agreement is None) == (not outcomes)
    if view.agreement is not None:
        assert 0 <= view.agreement[0] <= view.agreeing / view.compared <= view.agreement[1] <= 1


@pytest.mark.cluster
@pytest.mark.vision
@pytest.mark.timeout(300)
def test_a_case_is_decided_as_ever_and_its_shadow_is_told(
    client: VeridaskClient, http: httpx.Client, server: Running, films: dict[Step, bytes]
) -> None:
    """Through the running system."""
    before = {view.shadow: view for view in client.shadows(profile="recorded")}
    known = before[NAME].compared if before else 0
    case = client.create("recorded")
    for step in STEPS:
        client.upload(case.id, step, films[step], "video/mp4")
    decided = client.decided(case.id)
    assert decided.decision is not None
    assert {check.name for check in decided.checks} == set(PROFILE.policy.checks)
    while not (told := client.shadows(profile="recorded")) or told[0].compared == known:
        time.sleep(0.1)
    assert told[0].agreeing >= 1
    assert told[0].failed == 0
    assert not any("~" in json.dumps(event.data) for event in client.events(case.id)), "nobody is told of a shadow"
    with Client(server.scheduler, set_as_default=False) as dask:
        while any(case.id in key for key in dask.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))):
            time.sleep(0.1)  # the graph goes when it is kept
    assert http.get("/v1/shadow", params={"created_from": "yesterday"}).status_code == 422
