"""Webhooks of real API processes: over HTTP from the endpoint that is made to the webhook that is sent again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from benchmarks.topology import free_port
from service.client import ProblemError, VeridaskClient
from service.schemas.webhooks import DeliveryView, EndpointSecretView
from service.vocabulary import EventType
from tests.support.data_folders import server_in
from tests.support.receiver import HANGS, Hook, Receiver

pytestmark = pytest.mark.cluster
RETRIES = {"webhook_retries_s": json.dumps([0.2] * 30)}


def told(hooks: list[Hook], case_id: str) -> list[str]:
    """The types of a case's webhooks, in the order in which they came."""
    payloads = [json.loads(hook.body) for hook in hooks]
    return [payload["type"] for payload in payloads if payload["data"]["id"] == case_id]


def delivered(client: VeridaskClient, endpoint_id: str, count: int) -> list[DeliveryView]:
    """The endpoint's log once so many are delivered; what the receiver has taken is recorded a moment later."""
    while len(log := client.webhook_deliveries(endpoint_id, state="delivered").data) < count:
        time.sleep(0.05)
    return log


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def endpoint(client: VeridaskClient, receiver: Receiver) -> Iterator[EndpointSecretView]:
    """An endpoint of the session's server, for that receiver."""
    made = client.create_webhook_endpoint(receiver.url, description="ours")
    yield made
    client.delete_webhook_endpoint(made.id)


def test_endpoints_are_made_looked_at_and_removed(client: VeridaskClient, http: httpx.Client) -> None:
    made = client.create_webhook_endpoint("http://127.0.0.1:9/", events=["case.completed"], description="ours")
    assert made.secret.startswith("whsec_")
    assert client.webhook_endpoint(made.id).model_dump() == made.model_dump(exclude={"secret"})
    assert client.webhook_endpoints() == [client.webhook_endpoint(made.id)]
    assert made.secret not in http.get("/v1/webhook_endpoints").text, "it is shown once"
    assert client.rotate_webhook_secret(made.id).secret != made.secret
    assert client.enable_webhook_endpoint(made.id).disabled_at is None
    client.delete_webhook_endpoint(made.id)
    assert client.webhook_endpoints() == []
    for call in (
        client.webhook_endpoint,
        client.delete_webhook_endpoint,
        client.rotate_webhook_secret,
        client.enable_webhook_endpoint,
        client.webhook_deliveries,
        lambda gone: client.replay_webhook_delivery(gone, "msg_1"),
    ):
        with pytest.raises(ProblemError) as unknown:
            call(made.id)
        assert (unknown.value.status, unknown.value.code) == (404, "unknown_webhook_endpoint")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "https://10.0.0.1/"}, "unsafe_webhook_url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "unsafe_webhook_url"),
        ({"url": "http://example.org/"}, "unsafe_webhook_url"),
        ({"url": "https://user:password@example.org/"}, "unsafe_webhook_url"),
        ({"url": "https://nobody.invalid/"}, "unsafe_webhook_url"),
        ({"url": "http://127.0.0.1:9/", "events": []}, "invalid_request"),
        ({"url": "http://127.0.0.1:9/", "events": ["case.begun"]}, "invalid_request"),
        ({"url": "http://127.0.0.1:9/", "secret": "mine"}, "invalid_request"),
        ({"url": ""}, "invalid_request"),
        ({}, "invalid_request"),
    ],
)
def test_an_unsafe_or_malformed_endpoint_is_refused(http: httpx.Client, body: dict[str, Any], code: str) -> None:
    answer = http.post("/v1/webhook_endpoints", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert http.get("/v1/webhook_endpoints").json() == []


def changes(types: list[str]) -> list[str]:
    """Without those that repeat the one before."""
    return [each for each, _ in groupby(types)]


def test_a_case_is_told_as_its_event_stream_tells_it(
    client: VeridaskClient, receiver: Receiver, endpoint: EndpointSecretView, video: bytes
) -> None:
    case = client.create("recorded", client_reference_id="order 7", metadata={"name": "Erika"})
    for step in case.steps:
        client.upload(case.id, step.step, video, "video/mp4")
    client.decided(case.id)
    client.cancel(case.id)
    statuses = [f"case.{event.data['status']}" for event in client.events(case.id) if event.type == "status"]
    while told(receiver.taken, case.id)[-1:] != statuses[-1:]:
        time.sleep(0.05)
    hooks = receiver.taken
    # A step that is asked for again, or a decision, is told as well where the status stays.
    assert changes(told(hooks, case.id)) == changes(statuses)
    assert (statuses[0], statuses[-1]) == ("case.requires_input", "case.canceled")
    assert set(statuses) <= set(get_args(EventType))
    payloads = [hook.checked(endpoint.secret) for hook in hooks]
    assert {payload["data"]["client_reference_id"] for payload in payloads} == {"order 7"}
    assert "Erika" not in b"".join(hook.body for hook in hooks).decode(), "no metadata"
    assert payloads[-1]["data"]["outcome"] == "resubmission_requested"
    assert payloads[-1]["data"]["reasons"]


def test_the_log_is_read_in_parts_and_a_delivery_replayed(
    client: VeridaskClient, http: httpx.Client, receiver: Receiver, endpoint: EndpointSecretView
) -> None:
    cases = [client.create() for _ in range(3)]
    for case in cases:
        client.cancel(case.id)
    receiver.wait(6)
    log = delivered(client, endpoint.id, 6)
    parts = client.webhook_deliveries(endpoint.id, limit=4)
    assert parts.next_cursor
    rest = client.webhook_deliveries(endpoint.id, limit=4, cursor=parts.next_cursor)
    assert [d.id for d in (*parts.data, *rest.data)] == [d.id for d in log]
    assert rest.next_cursor is None
    assert client.webhook_deliveries(endpoint.id, state="failed").data == []
    oldest = client.webhook_delivery(endpoint.id, log[-1].id)
    assert oldest.payload["data"]["id"] == cases[0].id
    assert client.replay_webhook_delivery(endpoint.id, oldest.id).state == "pending"
    assert receiver.wait(7)[-1].id == oldest.id
    with pytest.raises(ProblemError) as unknown:
        client.replay_webhook_delivery(endpoint.id, "msg_unknown")
    assert (unknown.value.status, unknown.value.code) == (404, "unknown_webhook_delivery")
    path = f"/v1/webhook_endpoints/{endpoint.id}/deliveries"
    for query in ({"limit": 0}, {"limit": 101}, {"state": "lost"}):
        answer = http.get(path, params=query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert http.get(path, params={"cursor": "msg_unknown"}).status_code == 404


def test_an_endpoint_that_is_gone_must_be_enabled_before_a_replay(
    client: VeridaskClient, receiver: Receiver, endpoint: EndpointSecretView
) -> None:
    receiver.answer = lambda number, _: 410 if number == 0 else 200
    client.cancel(client.create().id)
    receiver.wait(1, taken=False)
    while client.webhook_endpoint(endpoint.id).disabled_at is None:
        time.sleep(0.05)
    refused = client.webhook_deliveries(endpoint.id, state="failed").data[-1]
    with pytest.raises(ProblemError) as disabled:
        client.replay_webhook_delivery(endpoint.id, refused.id)
    assert (disabled.value.status, disabled.value.code) == (409, "webhook_endpoint_disabled")
    client.enable_webhook_endpoint(endpoint.id)
    client.replay_webhook_delivery(endpoint.id, refused.id)
    assert receiver.wait(1)[0].id == refused.id


def test_a_process_that_is_killed_loses_no_webhook(cluster: str, tmp_path: Path) -> None:
    """Killed in the middle of an attempt that nobody answers, with others behind it and at a closed port."""
    closed = free_port()
    with server_in(tmp_path, cluster, webhook_timeout_s=1, **RETRIES) as local:
        with Receiver(lambda _number, _body: HANGS) as deaf:
            running = local.start()
            with VeridaskClient(running.url, running.key) as client:
                hears = client.create_webhook_endpoint(f"{deaf.url}?token=hidden")
                client.create_webhook_endpoint(f"http://127.0.0.1:{closed}/")
                cases = [client.create() for _ in range(2)]
                for case in cases:
                    client.cancel(case.id)
            first = deaf.wait(1, taken=False)[0]
            os.kill(running.processes["api"], signal.SIGKILL)
            assert local.process is not None
            local.process.wait()
        with Receiver(port=deaf.port) as receiver, Receiver(port=closed) as other:
            local.start()
            hooks, others = receiver.wait(4), other.wait(4)
    for case in cases:
        assert told(hooks, case.id) == told(others, case.id) == ["case.requires_input", "case.canceled"]
    assert first.id in {hook.id for hook in hooks if hook.checked(hears.secret)}
    written = (tmp_path / "server.log").read_text("utf-8")
    assert first.id in written
    assert "hidden" not in written
    assert hears.secret not in written


def test_two_api_processes_send_each_webhook_once(cluster: str, tmp_path: Path) -> None:
    with Receiver() as receiver, server_in(tmp_path, cluster) as one, server_in(tmp_path, cluster) as other:
        first, second = (VeridaskClient(at.url, at.key) for at in (one.start(), other.start()))
        with first, second:
            made = first.create_webhook_endpoint(receiver.url)
            assert second.webhook_endpoints() == first.webhook_endpoints()
            cases = [client.create() for _ in range(4) for client in (first, second)]
            for number, case in enumerate(cases):
                (first if number % 3 else second).cancel(case.id)
            delivered(first, made.id, 16)
    assert len(receiver.hooks) == 16
    for case in cases:
        assert told(receiver.hooks, case.id) == ["case.requires_input", "case.canceled"]
