"""Logs: every line is one JSON object with the ids of request and case, and nobody can write one of their own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.client import VeridaskClient
from service.server.local import Running
from tests.support.resumable import begun, device, patched

pytestmark = pytest.mark.cluster


def lines(folder: Path, request_id: str, event: str = "request") -> list[dict[str, Any]]:
    """The log lines of a request, once that event is among them."""
    deadline = time.monotonic() + 20
    while True:
        text = (folder / "server.log").read_text("utf-8")
        whole = text[: text.rfind("\n") + 1]
        found = [json.loads(line) for line in whole.splitlines() if line]  # every line there is, not ours alone
        mine = [line for line in found if line.get("request_id") == request_id]
        if any(line["event"] == event for line in mine):
            return mine
        assert time.monotonic() < deadline, mine
        time.sleep(0.05)


def test_each_line_of_an_upload_has_its_ids(
    server: Running, server_folder: Path, client: VeridaskClient, video: bytes
) -> None:
    case = client.create("recorded")
    headers = {"Authorization": f"Bearer {case.client_secret}", "Content-Type": "video/mp4"}
    url = f"{server.url}/v1/cases/{case.id}/uploads/face?client_secret=in-a-query&name=Jane"
    answer = httpx.put(url, content=video, headers={**headers, "X-Request-ID": "order-4711.a_b"})
    assert answer.headers["X-Request-ID"] == "order-4711.a_b"
    found = lines(server_folder, "order-4711.a_b")
    assert {line["event"] for line in found} >= {"upload_stored", "request"}
    assert {line["case_id"] for line in found} == {case.id}
    [access] = [line for line in found if line["event"] == "request"]
    assert (access["method"], access["route"], access["status"]) == ("PUT", "/v1/cases/{case_id}/uploads/{step}", 202)
    assert access["caller"] == "client_secret"
    assert access["ms"] > 0
    text = (server_folder / "server.log").read_text("utf-8")
    assert "in-a-query" not in text
    assert case.client_secret not in text
    client.cancel(case.id)


def test_each_line_of_a_resumable_upload_has_its_ids(
    server: Running, server_folder: Path, client: VeridaskClient, video: bytes
) -> None:
    case = client.create("recorded")
    with device(server.url, case) as http:
        path = begun(http, case, len(video))
        for start, part, events in ((0, video[:99], {"request"}), (99, video[99:], {"upload_stored", "request"})):
            answer = patched(http, path, start, part)
            assert answer.status_code == 204
            found = lines(server_folder, answer.headers["X-Request-ID"])
            assert {line["event"] for line in found} >= events
            assert {line["case_id"] for line in found} == {case.id}
            assert {line["upload_id"] for line in found} == {path.rsplit("/", 1)[1]}
            assert {line["caller"] for line in found} == {"client_secret"}
        other = patched(http, path + "x", 0, b"x")
        [line] = lines(server_folder, other.headers["X-Request-ID"])
        assert (line["code"], "upload_id" in line) == ("unknown_upload", False), "a word of the caller's own is no id"
    client.cancel(case.id)
    headers = {"Authorization": f"Bearer {server.key}"}
    redacted = httpx.post(f"{server.url}/v1/cases/{case.id}/redact", headers=headers)
    found = lines(server_folder, redacted.headers["X-Request-ID"])
    events = {line["event"] for line in found}
    assert events - {"case_erased"} == {"case_redacted", "request"}, "the sweep may be faster with the rest"
    assert {line["case_id"] for line in found} == {case.id}


def test_the_line_of_a_problem_says_which(server_folder: Path, http: httpx.Client) -> None:
    answer = http.get("/v1/cases/case_" + "0" * 26)
    [access] = lines(server_folder, answer.headers["X-Request-ID"])
    assert (access["status"], access["code"]) == (404, "unknown_case")
    assert access["caller"].startswith("key_")


@pytest.mark.parametrize(
    "given",
    ["", "short", "x" * 65, 'a"}, {"event": "forged', "two words", "per%0Acent", "new\\nline", "esc\x1b[31mape"],
)
def test_a_request_id_that_is_not_plain_is_replaced(server: Running, server_folder: Path, given: str) -> None:
    """Sent by hand: a client library would not."""
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as connection:
        head = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: {given}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode("latin-1")
    status, *rest = answer.split("\r\n")
    if "400" in status:  # the HTTP library refuses a control character itself
        assert "\x1b" in given
        return
    [made] = [line.split(": ")[1] for line in rest if line.lower().startswith("x-request-id")]
    assert made != given
    assert len(made) == 16
    lines(server_folder, made)


def test_a_request_is_not_told_with_the_ids_of_the_one_before(
    server: Running, server_folder: Path, client: VeridaskClient
) -> None:
    """On a kept connection, where one context might serve them all."""
    case = client.create("recorded")
    with httpx.Client(base_url=server.url) as http:
        known = http.get(f"/v1/cases/{case.id}", headers={"Authorization": f"Bearer {server.key}"})
        [first] = lines(server_folder, known.headers["X-Request-ID"])
        assert first["case_id"] == case.id
        assert first["caller"].startswith("key_")
        for _ in range(3):
            [line] = lines(server_folder, http.get("/healthz").headers["X-Request-ID"])
            assert "caller" not in line
            assert "case_id" not in line
    client.cancel(case.id)


def test_paths_that_would_be_lines_stay_out(server: Running, server_folder: Path) -> None:
    answer = httpx.get(f"{server.url}/x%0A%7B%22event%22%3A%22forged%22%7D?key=vd_secret")
    [access] = lines(server_folder, answer.headers["X-Request-ID"])
    assert access["route"] == "unknown"
    text = (server_folder / "server.log").read_text("utf-8")
    assert "forged" not in text
    assert "vd_secret" not in text


def test_what_dask_says_is_a_line_like_any_other() -> None:
    """Its loggers have a handler of their own, which wrote plain text among the lines of JSON."""
    program = (
        "import logging, distributed; from service.observability.logs import configure; configure('info')\n"
        "dask = logging.getLogger('distributed.client'); dask.info('not this'); dask.warning('a transfer failed')"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    [line] = run.stderr.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["logger"]) == ("a transfer failed", "warning", "distributed.client")
