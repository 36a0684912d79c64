"""A whole case over HTTP: real films, a real cluster, real models. The films are synthetic specimens."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from distributed import Client

from graphs.records import Step
from models.specimens.scenarios import SCENARIOS, film_step
from service.client import VeridaskClient
from service.schemas.cases import CaseView
from service.server.local import Running
from tests.support.scenario_films import GENUINE, SEED, STEPS, filmed

pytestmark = [pytest.mark.cluster, pytest.mark.vision, pytest.mark.timeout(300)]


@pytest.fixture
def dask(server: Running) -> Iterator[Client]:
    """A look at the cluster from beside."""
    with Client(server.scheduler, set_as_default=False) as client:
        client.get_task_stream()  # the first call starts the recording
        yield client


def computed(dask: Client, case_id: str) -> Counter[str]:
    """How often each task of a case was computed on any worker."""
    return Counter(
        str(record["key"]).split(f"-{case_id}")[0]
        for record in dask.get_task_stream()
        if case_id in str(record["key"]) and any(s["action"] == "compute" for s in record["startstops"])
    )


def keys_of(dask: Client, case_ids: set[str]) -> int:
    """How many keys the scheduler knows of these cases."""

    def count(dask_scheduler: object) -> int:
        # Keys are node-case-attempts; searching each for 500 ids would take the scheduler a second.
        return sum(case_ids.intersection(str(key).split("-")) != set() for key in dask_scheduler.tasks)  # type: ignore[attr-defined]

    found: int = dask.run_on_scheduler(count)
    return found


def until_forgotten(dask: Client, case_ids: set[str]) -> None:
    while keys_of(dask, case_ids):
        time.sleep(0.1)


@pytest.mark.parametrize("order", list(itertools.permutations(STEPS)), ids="-".join)
def test_any_order_gives_the_same_decision(
    client: VeridaskClient, dask: Client, films: dict[Step, bytes], order: tuple[Step, ...]
) -> None:
    case = client.create("recorded")
    for step in order:
        client.upload(case.id, step, films[step], "video/mp4")
    case_after = client.decided(case.id)
    assert case_after.decision is not None
    assert (case_after.decision.outcome, case_after.decision.reasons) == ("approved", [])
    assert case_after.status == "completed"
    runs = computed(dask, case.id)
    assert {f"frames_{step}": runs[f"frames_{step}"] for step in STEPS} == dict.fromkeys(
        (f"frames_{step}" for step in STEPS), 1
    ), "each upload is decoded exactly once"
    until_forgotten(dask, {case.id})


def test_a_challenge_is_drawn_and_must_be_followed(client: VeridaskClient, films: dict[Step, bytes]) -> None:
    case = client.create("standard")
    assert len(case.challenge) == 2
    followed = film_step(GENUINE, "face", case.challenge, seed=SEED, today=case.created_at.date())
    for step in STEPS:
        client.upload(case.id, step, {**films, "face": followed}[step], "video/mp4")
    case_after = client.decided(case.id)
    assert case_after.decision is not None
    assert case_after.decision.outcome == "approved"
    active = next(check for check in case_after.checks if check.name == "liveness_active_face")
    assert active.result == "clear"


def test_a_retake_runs_only_what_it_changes(client: VeridaskClient, dask: Client, films: dict[Step, bytes]) -> None:
    blurred = next(scenario for scenario in SCENARIOS if scenario.reason == "blurred_photo")
    case = client.create("recorded")
    client.upload(case.id, "back", filmed(blurred, "back"), "video/mp4")
    asked = client.wait(case.id)
    back = next(step for step in asked.steps if step.step == "back")
    assert asked.status == "requires_input", "asked at once, before the other steps arrive"
    assert (back.state, [reason.code for reason in back.reasons]) == ("retake", ["blurred_photo"])
    for step in STEPS:
        client.upload(case.id, step, films[step], "video/mp4")
    while (final := client.case(case.id)).status != "completed":
        time.sleep(0.1)
    assert outcome(final) == ("approved", [])
    runs = computed(dask, case.id)
    assert {name: runs[name] for name in ("frames_front", "frames_back", "frames_face", "faces_face", "verdict")} == {
        "frames_front": 1,
        "frames_back": 2,
        "frames_face": 1,
        "faces_face": 1,
        "verdict": 1,
    }


def test_a_retake_after_a_decision_runs_only_what_it_changes(
    client: VeridaskClient, dask: Client, films: dict[Step, bytes]
) -> None:
    """The other steps' checks once ran again then: the cluster had let their results go with the verdict."""
    two_people = next(scenario for scenario in SCENARIOS if scenario.reason == "several_faces_in_video")
    case = client.create("recorded")
    client.upload(case.id, "face", filmed(two_people, "face"), "video/mp4")
    client.upload(case.id, "front", films["front"], "video/mp4")
    client.upload(case.id, "back", films["back"], "video/mp4")
    asked = client.decided(case.id)
    assert outcome(asked) == ("resubmission_requested", ["several_faces_in_video"])
    client.upload(case.id, "face", films["face"], "video/mp4")
    while (final := client.case(case.id)).status != "completed":
        time.sleep(0.1)
    assert outcome(final) == ("approved", [])
    runs = computed(dask, case.id)
    once = {name: runs[name] for name in runs if name.endswith(("_front", "_back")) and "findings" not in name}
    assert once
    assert set(once.values()) == {1}, once
    assert {name: runs[name] for name in ("faces_early_face", "match", "verdict")} == {
        "faces_early_face": 2,
        "match": 2,
        "verdict": 2,
    }
    until_forgotten(dask, {case.id})


def outcome(case: CaseView) -> tuple[str, list[str]]:
    assert case.decision is not None
    return case.decision.outcome, [reason.code for reason in case.decision.reasons]


def test_five_hundred_open_cases_do_not_hold_up_another(
    client: VeridaskClient, dask: Client, films: dict[Step, bytes]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = {case.id for case in pool.map(client.create, ["standard"] * 500)}
    for case_id in list(opened)[:5]:
        client.upload(case_id, "back", films["back"], "video/mp4")
    case = client.create("recorded")
    for step in STEPS:
        client.upload(case.id, step, films[step], "video/mp4")
    assert outcome(client.decided(case.id)) == ("approved", [])
    with ThreadPoolExecutor(4) as pool:
        assert {case.status for case in pool.map(client.case, opened)} == {"requires_input"}
        assert {case.status for case in pool.map(client.cancel, opened)} == {"canceled"}
    until_forgotten(dask, opened)
