"""Figures for Prometheus: what happens over HTTP is counted, labels are bounded, and nothing of a case is in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.client import CaseEvent, VeridaskClient
from service.observability.metrics import Metrics
from service.server.local import LocalServer, Running
from tests.support.receiver import Receiver
from tests.support.resumable import begun, device, patched
from tests.support.waiting import until
from workers.load import Joined

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(running: Running) -> Figures:
    """Every figure by its name and labels."""
    answer = httpx.get(f"{running.url}/metrics", headers={"Authorization": f"Bearer {running.key}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name.removeprefix("veridask_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def counted(running: Running) -> Callable[..., float]:
    """How much a figure is above what it is now, summed over the labels that are not named."""
    before = scraped(running)

    def now(name: str, **labels: str) -> float:
        def total(figures: Figures) -> float:
            return sum(
                value
                for (each, given), value in figures.items()
                if each == name and labels.items() <= dict(given).items()
            )

        return total(scraped(running)) - total(before)

    return now


def seen(client: VeridaskClient, case_id: str) -> Iterator[CaseEvent]:
    """The events of a case up to its first decision, with those that were told along with it."""
    for event in client.events(case_id):
        yield event
        if event.type == "decision":
            return


@pytest.mark.cluster
def test_a_case_is_counted(server: Running, client: VeridaskClient, http: httpx.Client, video: bytes) -> None:
    grown = counted(server)
    with Receiver() as receiver:
        endpoint = client.create_webhook_endpoint(receiver.url)
        case = client.create("recorded")
        refused = http.put(
            f"/v1/cases/{case.id}/uploads/front", content=b"no film", headers={"Content-Type": "video/mp4"}
        )
        assert refused.status_code == 422
        strange = http.put(f"/v1/cases/{case.id}/uploads/soul", content=b"x", headers={"Content-Type": "a/b"})
        assert strange.status_code == 404
        for step in case.steps:
            client.upload(case.id, step.step, video, "video/mp4")
        decided = client.decided(case.id)
        told = {event.data["check"]: event.data["worker"] for event in seen(client, case.id) if event.type == "check"}
        assert told == {check.name: check.worker for check in decided.checks}, "once an address here and a name there"
        client.cancel(case.id)
        receiver.wait(2)  # of its creation and of this; a case whose first quality came early was never `processing`
        client.delete_webhook_endpoint(endpoint.id)
    assert grown("cases_created_total", profile="recorded") == 1
    assert grown("uploads_total", result="accepted", type="video/mp4") == 3
    assert grown("uploads_total", result="undecodable_media", step="front") == 1
    assert grown("uploads_total", step="other", type="other", result="unknown_step") == 1
    assert grown("upload_bytes_total") == 3 * len(video)
    assert grown("upload_seconds_count") == 3
    assert grown("upload_stage_seconds_count", stage="keep") == 3
    assert grown("upload_stage_seconds_count", stage="receive") == 4
    assert grown("problems_total", code="unknown_step") == 1
    assert grown("requests_total", route="/v1/cases/{case_id}/uploads/{step}", method="PUT", status="202") == 3
    assert grown("request_seconds_count", route="/v1/cases/{case_id}/uploads/{step}") == 5
    outcome = {"outcome": "resubmission_requested", "profile": "recorded", "decided_by": "policy"}
    assert grown("decisions_total", **outcome) == 1
    assert grown("decision_seconds_count", profile="recorded") == 1
    assert decided.timings.decision_ms is not None
    assert grown("decision_seconds_sum") == pytest.approx(decided.timings.decision_ms / 1000, abs=0.002)
    for check in decided.checks:
        assert grown("checks_total", check=check.name, result=check.result) == 1, check.name
        assert grown("check_seconds_count", check=check.name) == (check.result != "not_run")
    assert grown("task_seconds_count", task="frames_face") == 1
    assert grown("webhook_attempts_total", state="delivered") >= 2


@pytest.mark.cluster
def test_a_resumable_upload_and_an_erasure_are_counted(
    server: Running, client: VeridaskClient, http: httpx.Client, video: bytes
) -> None:
    grown = counted(server)
    case = client.create("recorded")
    with device(server.url, case) as person:
        path = begun(person, case, len(video))
        assert patched(person, path, 0, video[:100]).status_code == 204
        assert patched(person, path, 100, video[100:]).status_code == 204
        refused = begun(person, case, 50, "front")
        assert patched(person, refused, 0, bytes(50)).status_code == 422
        begun(person, case, 50, "back")
    client.cancel(case.id)
    until(lambda: grown("resumable_uploads_total", step="back", state="ended") == 1)
    redacted = http.post(f"/v1/cases/{case.id}/redact")
    assert redacted.json()["redaction"]["completed_at"]
    assert grown("resumable_uploads_total", step="face", state="begun") == 1
    assert grown("resumable_uploads_total", step="face", state="accepted") == 1
    assert grown("resumable_uploads_total", step="front", state="ended") == 1
    assert grown("resumable_bytes_total", step="face") == 100, "the last bytes come with the whole"
    assert grown("upload_bytes_total", step="face") == len(video)
    assert grown("uploads_total", step="face", type="video/mp4", result="accepted") == 1
    assert grown("uploads_total", step="front", type="video/mp4", result="undecodable_media") == 1
    assert grown("requests_total", method="PATCH", status="204") == 2
    assert grown("cases_erased_total") == 1


@pytest.mark.cluster
def test_what_there_is_now(cluster: str, tmp_path: Path) -> None:
    """The gauges of the store and the cluster, on a service of its own: others would count too."""
    orphan = tmp_path / "evidence" / "cases" / "case_0" / "face-1-0.media"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"of an upload that was never acknowledged")
    with LocalServer(tmp_path, cluster, key_rate=1, case_rate=1000) as local:
        running = local.start()
        with VeridaskClient(running.url, running.key) as client:
            first, second = client.create("recorded"), client.create("recorded")
            client.cancel(second.id)
            with device(running.url, first) as http:
                begun(http, first, 1000)
            headers = {"Authorization": f"Bearer {first.client_secret}"}
            with httpx.stream("GET", f"{running.url}/v1/cases/{first.id}/events", headers=headers) as stream:
                told = stream.iter_lines()
                next(told)
                found = scraped(running)
        assert found["cases", frozenset({("status", "requires_input"), ("outcome", "")})] == 1
        assert found["cases", frozenset({("status", "canceled"), ("outcome", "")})] == 1
        assert found["event_streams", frozenset()] == 1
        assert found["ready", frozenset()] == 1
        assert found["api_processes", frozenset()] == 1
        assert found["webhook_backlog", frozenset()] == 0
        assert found["unfinished_uploads", frozenset()] == 1
        assert found["unerased_cases", frozenset()] == 0
        trouble = {("level", "warning"), ("event", "unacknowledged_media_removed")}
        assert found["troubles_total", frozenset(trouble)] == 1
        for label in ("CPU", "GPU"):
            where = frozenset({("cell", "main"), ("label", label)})
            assert found["workers", where] == 1
            assert found["slots", where] == 2
            assert found["runnable_tasks", where] >= 0
        assert found["loop_lag_seconds_count", frozenset()] > 0
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {running.key}"}) as http:
            while http.get("/v1/profiles").status_code == 200:
                pass
            while (answer := http.get("/metrics")).status_code == 429:
                pass
        limited = re.search(r'^veridask_limited_requests_total\{of="key"\} (\S+)$', answer.text, re.MULTILINE)
        assert limited is not None
        assert float(limited[1]) >= 1


@pytest.mark.cluster
def test_no_label_is_a_caller_s_word(server: Running, http: httpx.Client, client: VeridaskClient) -> None:
    """A label for each path, method or case would grow without end, and tell which cases there are."""
    case = client.create("recorded")
    client.cancel(case.id)
    before = len(scraped(server))
    for n in range(30):
        http.get(f"/nothing/{n}")
        http.request(f"BREW{n}", "/healthz")
        http.get(f"/v1/cases/case_{n:026}")
        http.put(f"/v1/cases/{case.id}/uploads/step{n}", content=b"x", headers={"Content-Type": f"video/x{n}"})
    after = scraped(server)
    assert len(after) - before < 100, "some new ones, but not thirty of each"
    known = {value for _, labels in after for _, value in labels}
    assert not {value for value in known if re.search("case_[0-9a-z]{26}", value)}
    assert not any(case.id in value or "BREW" in value or "nothing" in value for value in known)


def test_methods_have_few_names() -> None:
    metrics = Metrics()
    for method in ("GET", "BREW", "x" * 1000):
        metrics.answered(method, "unknown", 405, 0.1, "method_not_allowed")
    names = {sample.labels["method"] for family in metrics.requests.collect() for sample in family.samples}
    assert names == {"GET", "other"}


def test_passes_of_several_workers_are_added_up() -> None:
    one = {"calls": 4, "items": 9, "passes": 2, "fallbacks": 1, "mean_batch": 4.5, "max_batch": 6, "wait_s": 0.5}
    other: Mapping[str, float] = {**one, "max_batch": 8, "fallbacks": 0}
    assert Joined().and_of(one).and_of(other) == Joined(8, 18, 4, 1, 8, 1.0)
