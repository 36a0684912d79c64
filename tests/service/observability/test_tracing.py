"""Traces: a real collector gets the spans of a whole case, and nothing of a person or a credential in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.client import VeridaskClient
from service.errors import SettingsError
from service.observability.tracing import is_enabled
from service.server.local import LocalServer, Running
from tests.support.collector import Collector, Told
from tests.support.receiver import Receiver
from tests.support.resumable import begun, device, patched

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(scope="module")
def traced(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, Running, Path]]:
    """A collector, and a server that sends its traces there."""
    folder = tmp_path_factory.mktemp("traced")
    with Collector() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENDPOINT, collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with LocalServer(folder, cluster) as local:
            yield collector, local.start(), folder


def named(spans: list[Told], name: str, case_id: str) -> list[Told]:
    return [span for span in spans if span.name == name and span.attributes.get("veridask.case_id") == case_id]


@pytest.mark.cluster
def test_a_whole_case_as_a_trace(traced: tuple[Collector, Running, Path], video: bytes) -> None:
    collector, running, _ = traced
    caller = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    headers = {"Authorization": f"Bearer {running.key}", "Content-Type": "video/mp4"}
    with Receiver() as receiver, VeridaskClient(running.url, running.key) as client:
        client.create_webhook_endpoint(receiver.url)
        case = client.create("recorded", client_reference_id="Jane-Secret-Doe", metadata={"name": "Jane Secret"})
        client.upload(case.id, "front", video, "video/mp4")
        client.upload(case.id, "back", video, "video/mp4")
        last = f"{running.url}/v1/cases/{case.id}/uploads/face?client_secret=hidden-in-a-query"
        answer = httpx.put(last, content=video, headers={**headers, "traceparent": caller})
        assert answer.status_code == 202
        decided = client.decided(case.id)
        client.cancel(case.id)
        spans = collector.wait(
            lambda found: (
                {span.parent for span in named(found, "webhook attempt", case.id)}
                >= {span.id for span in named(found, "case", case.id)}
                > set()
            )
        )
    by_id = {span.id: span for span in spans}
    assert {span.service for span in spans} == {"veridask"}

    [whole] = named(spans, "case", case.id)
    assert decided.timings.last_upload_at is not None
    assert decided.timings.decision_ms is not None
    assert whole.start == pytest.approx(decided.timings.last_upload_at.timestamp(), abs=1e-3)
    assert 1000 * (whole.end - whole.start) == pytest.approx(decided.timings.decision_ms, abs=2)
    assert whole.attributes["veridask.outcome"] == "resubmission_requested"

    # Up from the case: the upload, its request, and the caller's own span.
    upload = by_id[whole.parent]
    request = by_id[upload.parent]
    assert (upload.name, upload.attributes["veridask.step"]) == ("upload", "face")
    assert request.name == "PUT /v1/cases/{case_id}/uploads/{step}"
    assert request.attributes["http.response.status_code"] == 202
    assert request.attributes["veridask.request_id"] == answer.headers["X-Request-ID"]
    assert (request.trace, request.parent) == ("ab" * 16, "cd" * 8)
    parts = {span.name: span for span in spans if span.parent == upload.id}
    assert {"upload receive", "upload probe", "upload keep"} <= set(parts)
    assert all(upload.start <= part.start <= part.end <= upload.end for name, part in parts.items() if name != "case")

    # Down from it: the tasks, each with its place, and the checks as the case shows them.
    tasks = {span.name: span for span in spans if span.parent == whole.id and span.name != "webhook attempt"}
    checks = {check.name: check for check in decided.checks if check.result != "not_run"}
    assert set(checks) <= set(tasks)
    for name, check in checks.items():
        assert 1000 * (tasks[name].end - tasks[name].start) == pytest.approx(check.duration_ms, abs=1)
        assert tasks[name].attributes["veridask.worker"] == check.worker
        assert tasks[name].attributes["veridask.result"] == check.result
    assert tasks["frames_face"].attributes["veridask.label"] == "CPU"
    assert tasks["faces_early_face"].attributes["veridask.label"] == "GPU"
    assert tasks["faces_early_face"].attributes["veridask.worker"] == "gpu-0"

    after = [span for span in named(spans, "webhook attempt", case.id) if span.parent == whole.id]
    assert {span.attributes["veridask.state"] for span in after} == {"delivered"}

    for secret in ("Jane", "hidden-in-a-query", running.key, case.client_secret):
        assert secret.encode() not in collector.raw


@pytest.mark.cluster
def test_a_resumable_upload_and_an_erasure(traced: tuple[Collector, Running, Path], video: bytes) -> None:
    collector, running, _ = traced
    with VeridaskClient(running.url, running.key) as client:
        case = client.create("recorded")
        with device(running.url, case) as http:
            path = begun(http, case, len(video))
            assert patched(http, path, 0, video[:100]).status_code == 204
            assert patched(http, path, 100, video[100:]).status_code == 204
        client.cancel(case.id)
    headers = {"Authorization": f"Bearer {running.key}"}
    erased = httpx.post(f"{running.url}/v1/cases/{case.id}/redact", headers=headers)
    assert erased.json()["redaction"]["completed_at"]
    spans = collector.wait(lambda found: bool(named(found, "POST /v1/cases/{case_id}/redact", case.id)))
    by_id = {span.id: span for span in spans}
    arrivals = named(spans, "upload arrival", case.id)
    assert [span.attributes["veridask.bytes"] for span in arrivals] == [100, 0]
    assert {span.attributes["veridask.upload_id"] for span in arrivals} == {path.rsplit("/", 1)[1]}
    asked = [by_id[span.parent] for span in arrivals]
    assert {span.name for span in asked} == {"PATCH /v1/cases/{case_id}/uploads/{step}/tus/{upload_id}"}
    [upload] = named(spans, "upload", case.id)
    assert upload.parent == asked[1].id, "the last request makes it the case's"
    erasures = named(spans, "erase", case.id)  # the sweep may have come by as well
    assert "POST /v1/cases/{case_id}/redact" in {by_id[span.parent].name for span in erasures if span.parent}
    assert not any(span.failed for span in erasures)


@pytest.mark.cluster
def test_a_request_that_fails_says_so_and_not_what_was_in_it(traced: tuple[Collector, Running, Path]) -> None:
    collector, running, _ = traced
    headers = {"Authorization": f"Bearer {running.key}", "Content-Type": "video/mp4"}
    with VeridaskClient(running.url, running.key) as client:
        case = client.create("recorded")
        answer = httpx.put(
            f"{running.url}/v1/cases/{case.id}/uploads/front", content=b"Jane Secret is no film", headers=headers
        )
        assert answer.status_code == 422
        client.cancel(case.id)
    [upload] = named(collector.wait(lambda found: bool(named(found, "upload", case.id))), "upload", case.id)
    assert upload.failed
    assert upload.attributes["error.type"] == "UndecodableMediaError"
    assert upload.events == 0, "what an exception says is not recorded"
    assert b"Jane" not in collector.raw


@pytest.mark.cluster
@pytest.mark.parametrize("given", ["", "garbage", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-zz-1-01"])
def test_a_malformed_traceparent_begins_a_trace(traced: tuple[Collector, Running, Path], given: str) -> None:
    collector, running, _ = traced
    answer = httpx.get(f"{running.url}/healthz", headers={"traceparent": given})
    asked = answer.headers["X-Request-ID"]
    spans = collector.wait(lambda found: any(s.attributes.get("veridask.request_id") == asked for s in found))
    [span] = [span for span in spans if span.attributes.get("veridask.request_id") == asked]
    assert span.parent == ""
    assert int(span.trace, 16)


@pytest.mark.cluster
def test_a_collector_that_is_away_holds_nothing_up(cluster: str, tmp_path: Path, video: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENDPOINT, "http://127.0.0.1:9")
        with (
            LocalServer(tmp_path, cluster) as local,
            VeridaskClient((running := local.start()).url, running.key) as client,
        ):
            case = client.create("recorded")
            assert client.upload(case.id, "front", video, "video/mp4").status == "requires_input"
            client.cancel(case.id)
            process = local.process
            assert process is not None
            process.terminate()
            assert process.wait(30) == 0


def test_traces_are_off_unless_an_endpoint_is_named() -> None:
    assert not is_enabled({})
    assert not is_enabled({ENDPOINT: ""})
    assert is_enabled({ENDPOINT: "http://127.0.0.1:4318"})
    assert is_enabled({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"})
    assert not is_enabled({ENDPOINT: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"})
    assert not is_enabled({ENDPOINT: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"})


def test_a_protocol_that_is_not_spoken_refuses_to_start() -> None:
    with pytest.raises(SettingsError, match="http/protobuf"):
        is_enabled({ENDPOINT: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
