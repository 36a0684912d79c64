"""Requests that no client of ours sends: each is answered with a problem document, and none with 500. Found by
generated requests (`make contract`) and by hand.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.client import VeridaskClient
from service.server.local import LocalServer, Running

pytestmark = pytest.mark.cluster

JSON = {"Content-Type": "application/json"}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    return answer.status_code, document["code"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"profile": "\xff"}', id="no UTF-8"),
        pytest.param(b"[" * 60_000, id="nested too deep"),
        pytest.param(b'{"metadata": {"a": ' + b"9" * 5000 + b"}}", id="a number of 5,000 digits"),
        pytest.param(b'{"metadata": {"a": NaN}}', id="not a number"),
    ],
)
def test_json_that_python_cannot_read(http: httpx.Client, body: bytes) -> None:
    """FastAPI answered the first three with a 400 that the document does not have."""
    assert code_of(http.post("/v1/cases", content=body, headers=JSON)) == (422, "invalid_request")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ";;;", None])
def test_a_body_that_does_not_say_it_is_json(http: httpx.Client, content_type: str | None) -> None:
    """It was 422, with a message that named the parser's classes."""
    headers = {"Content-Type": content_type} if content_type else {}
    assert code_of(http.post("/v1/cases", content=b"{}", headers=headers)) == (415, "wrong_media_type")


@pytest.mark.parametrize("charset", ["; charset=utf-16", "; charset=klingon", ";a=b"])
def test_a_charset_changes_nothing(http: httpx.Client, charset: str) -> None:
    headers = {"Content-Type": f"application/json{charset}"}
    answer = http.post("/v1/cases", content=b'{"profile": "none"}', headers=headers)
    assert code_of(answer) == (404, "unknown_profile")


def test_a_json_body_that_is_announced_too_large_is_not_waited_for(server: Running) -> None:
    """The service waited for its first 64 KiB before it said so: for ever, where they did not come."""
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname, at.port), timeout=10) as connection:
        head = f"POST /v1/cases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 99999999999999\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/cases", "GET, POST"),
        ("/v1/webhook_endpoints/endpoint_none", "GET, DELETE"),
        ("/v1/cases/case_none/cancel", "POST"),
        ("/docs", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_there_are(http: httpx.Client, path: str, allowed: str) -> None:
    """Of two routes with one path only the first one's methods were named."""
    for method in ("OPTIONS", "TRACE", "PATCH", "QUERY"):
        answer = http.request(method, path)
        assert code_of(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed
    assert http.head("/v1/cases").headers["allow"] == "GET, POST"


def test_a_slash_too_many_is_no_redirect(http: httpx.Client) -> None:
    """The redirect went to whatever host the request named, and the document has none."""
    for path in ("/v1/cases/", "//v1/cases", "/v1/profiles/"):
        assert code_of(http.get(path, headers={"Host": "elsewhere.example"})) == (404, "not_found")


QUERIES: Mapping[str, str] = {
    "created_from=0.5": "a number was taken for seconds since 1970",
    "created_from=2026-01-01": "a day",
    "created_from=2026-01-01T00:00:00": "without an offset",
    "created_from=9999-12-31T23:59:59-23:59": "no such time in UTC: it was 500",
    "created_before=0001-01-01T00:00:00%2B23:59": "the same at the other end",
    "created_before=0000-01-01T00:00:00Z": "no such year",
    "profile=%00": "PostgreSQL takes no NUL in a text: it was 503, as if the store were away",
    "client_reference_id=a%00": "the same",
    "cursor=case_%00": "a cursor that was tampered with",
    "cursor=case_%27or%201=1": "the same",
    "limit=99999999999999999999999": "too many",
    "status=open": "no status",
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_means_nothing(http: httpx.Client, query: str) -> None:
    assert code_of(http.get(f"/v1/cases?{query}")) == (422, "invalid_request"), QUERIES[query]


@pytest.mark.parametrize("key", ["", "a" * 256, "a\x7f", "a\tb"])
def test_idempotency_keys_are_printable(http: httpx.Client, key: str) -> None:
    answer = http.post("/v1/cases", json={}, headers={"Idempotency-Key": key})
    assert code_of(answer) == (422, "invalid_request")


@pytest.mark.parametrize(
    "name", ["front%00", "front%0d%0aSet-Cookie:%20a=b", "a" * 33, "..%2f..%2fetc", "%2e%2e", "%ff"]
)
def test_steps_are_names_and_no_paths(http: httpx.Client, client: VeridaskClient, video: bytes, name: str) -> None:
    case = client.create("recorded")
    headers = {"Content-Type": "video/mp4"}
    answer = http.put(f"/v1/cases/{case.id}/uploads/{name}", content=video, headers=headers)
    assert code_of(answer) in {(404, "unknown_step"), (404, "not_found"), (422, "invalid_request")}
    assert "set-cookie" not in answer.headers
    assert client.cancel(case.id).status == "canceled"


def test_the_first_of_two_credentials_counts(server: Running) -> None:
    key = f"Bearer {server.key}"
    for given, status in ((("Bearer x", key), 401), ((key, "Bearer x"), 200)):
        headers = [("Authorization", value) for value in given]
        assert httpx.get(f"{server.url}/v1/profiles", headers=headers).status_code == status


def test_media_whose_type_is_not_told(client: VeridaskClient, http: httpx.Client, video: bytes, picture: bytes) -> None:
    """Clients that are generated from the document name no type; what they send is looked at as closely."""
    case = client.create("recorded")
    headers = {"Content-Type": "application/octet-stream"}
    for media, code in ((picture, "wrong_media_type"), (b"no media at all " * 50, "undecodable_media")):
        answer = http.put(f"/v1/cases/{case.id}/uploads/face", content=media, headers=headers)
        assert answer.json()["code"] == code
    assert http.put(f"/v1/cases/{case.id}/uploads/face", content=video, headers=headers).status_code == 202
    client.cancel(case.id)


def test_no_text_reaches_postgresql_that_it_refuses(cluster: str, tmp_path: Path, postgres_database: str) -> None:
    """psycopg refuses a NUL in a text, which was answered with 503."""
    with LocalServer(tmp_path, cluster, database_url=postgres_database) as local:
        running = local.start()
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {running.key}"}) as http:
            for path in ("cases/case_%00", "cases/a%00/evidence", "webhook_endpoints/endpoint_%00/deliveries/msg_%00"):
                assert http.get(f"/v1/{path}").status_code == 404, path
            for path in (
                "/v1/cases?profile=%00",
                "/v1/cases?client_reference_id=%00",
                "/v1/webhook_endpoints/endpoint_none/deliveries?cursor=%00",
            ):
                assert code_of(http.get(path)) == (422, "invalid_request"), path
            for body in ({"profile": "\x00"}, {"client_reference_id": "\x00"}, {"metadata": {"\x00": ""}}):
                assert code_of(http.post("/v1/cases", json=body)) == (422, "invalid_request")
