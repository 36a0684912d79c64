"""The end of an API process: what it acknowledged is kept, what is under way ends in a bounded time, streams end."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.client import VeridaskClient
from service.schemas.cases import CreatedView
from service.server.local import LocalServer, Running
from tests.support.kept_media import kept
from tests.support.resumable import MIB, begun, created, device, half_sent, offset, padded, patched
from tests.support.waiting import until

pytestmark = pytest.mark.cluster


class SlowUpload:
    """An upload over a plain socket that sends its body in two parts, the second one when it is told to."""

    def __init__(self, running: Running, case: CreatedView, step: str, media: bytes) -> None:
        address = urlsplit(running.url)
        self._media = media
        self._socket = socket.create_connection((str(address.hostname), address.port or 0), timeout=60)
        head = (
            f"PUT /v1/cases/{case.id}/uploads/{step} HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\n"
            f"Authorization: Bearer {case.client_secret}\r\nContent-Length: {len(media)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + media[: len(media) // 2])

    def finish(self) -> None:
        """Send the other half."""
        self._socket.sendall(self._media[len(self._media) // 2 :])

    def answer(self) -> str:
        """The answer, read until the server closes the connection; empty when it does so without one."""
        with self._socket, contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: self._socket.recv(65536), b"")).decode("latin-1")
        return ""


@contextlib.contextmanager
def stopping(local: LocalServer) -> Iterator[None]:
    """Between SIGTERM and the end of the process, which must come by itself."""
    process = local.process
    assert process is not None
    process.terminate()
    yield
    assert process.wait(60) == 0


def until_closed(running: Running) -> None:
    """Wait until nobody can connect any more. Who had connected and was not yet accepted when the port closed is reset
    by the kernel: that failed the test now and then.
    """
    deadline = time.monotonic() + 30
    with contextlib.suppress(httpx.ConnectError):
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.ReadError):
                httpx.get(f"{running.url}/healthz")
            time.sleep(0.02)
        pytest.fail("it still takes connections")


def test_an_upload_under_way_gets_to_its_end(cluster: str, tmp_path: Path, video: bytes) -> None:
    with LocalServer(tmp_path, cluster) as local:
        running = local.start()
        with VeridaskClient(running.url, running.key) as client:
            case = client.create("recorded")
            client.upload(case.id, "back", video, "video/mp4")
        upload = SlowUpload(running, case, "front", video)
        time.sleep(0.3)
        with stopping(local):
            until_closed(running)
            upload.finish()
            answer = upload.answer()
        assert answer.startswith("HTTP/1.1 202")
    digest = hashlib.sha256(video).hexdigest()
    assert kept(tmp_path) == {(case.id, "back"): digest, (case.id, "front"): digest}


def test_an_upload_that_does_not_end_is_broken_off_and_leaves_nothing(
    cluster: str, tmp_path: Path, video: bytes
) -> None:
    with LocalServer(tmp_path, cluster, stop_s=1) as local:
        running = local.start()
        with VeridaskClient(running.url, running.key) as client:
            case = client.create("recorded")
            client.upload(case.id, "back", video, "video/mp4")
        upload = SlowUpload(running, case, "front", video)
        time.sleep(0.3)
        began = time.monotonic()
        with stopping(local):
            answer = upload.answer()
        assert " 202 " not in answer
        assert time.monotonic() - began < 20, "it ended by itself, and not when the client's patience did"
        assert list((tmp_path / "evidence" / "incoming").iterdir()) == []
        running = local.start()
        with VeridaskClient(running.url, case.client_secret) as client:
            states = {step.step: step.state for step in client.case(case.id).steps}
            assert states["front"] == "wanted", "it was never acknowledged, so the step is open"
            client.upload(case.id, "front", video, "video/mp4")
    assert len(kept(tmp_path)) == 2


def test_a_resumable_upload_under_way_gets_to_its_end(cluster: str, tmp_path: Path, video: bytes) -> None:
    with LocalServer(tmp_path, cluster) as local:
        running = local.start()
        case = created(running.url, running.key)
        with device(running.url, case) as http:
            path = begun(http, case, len(video))
            assert patched(http, path, 0, video[:100]).status_code == 204
        with half_sent(running.url, case, path, video[100:200], len(video) - 100, at=100) as connection:
            time.sleep(0.3)
            with stopping(local):
                until_closed(running)
                connection.sendall(video[200:])
                assert connection.recv(65536).startswith(b"HTTP/1.1 204")
    assert kept(tmp_path) == {(case.id, "face"): hashlib.sha256(video).hexdigest()}


def test_a_resumable_upload_that_does_not_end_goes_on_at_the_next_start(
    cluster: str, tmp_path: Path, video: bytes
) -> None:
    media = padded(video, 12 * MIB)
    with LocalServer(tmp_path, cluster, stop_s=1) as local:
        running = local.start()
        case = created(running.url, running.key)
        with device(running.url, case) as http:
            path = begun(http, case, len(media))
            assert patched(http, path, 0, media[:MIB]).headers["upload-offset"] == str(MIB)
            connection = half_sent(running.url, case, path, media[MIB : 8 * MIB], len(media) - MIB, at=MIB)
            until(lambda: offset(http, path) == 5 * MIB)
        with connection, stopping(local), contextlib.suppress(ConnectionResetError):
            assert not connection.recv(65536).startswith(b"HTTP/1.1 2")
        running = local.start()
        with device(running.url, case) as http:
            came = offset(http, path)
            assert 5 * MIB <= came <= 8 * MIB, "what was told to be durable is"
            assert patched(http, path, came, media[came:]).status_code == 204
    assert kept(tmp_path) == {(case.id, "face"): hashlib.sha256(media).hexdigest()}


def test_it_is_not_ready_first_and_serves_on_meanwhile(cluster: str, tmp_path: Path, video: bytes) -> None:
    with LocalServer(tmp_path, cluster, drain_s=2) as local:
        running = local.start()
        with VeridaskClient(running.url, running.key) as client:
            case = client.create("recorded")
            ended: list[float] = []

            def listen() -> None:
                with VeridaskClient(running.url, case.client_secret) as listener:
                    for _ in listener.events(case.id):
                        pass
                ended.append(time.monotonic())

            stream = threading.Thread(target=listen)
            stream.start()
            time.sleep(0.3)
            with stopping(local):
                deadline = time.monotonic() + 10
                while (ready := httpx.get(f"{running.url}/readyz")).status_code == 200:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                assert (ready.status_code, ready.json()["missing"]) == (503, ["stopping"])
                assert httpx.get(f"{running.url}/healthz").status_code == 200
                assert client.upload(case.id, "face", video, "video/mp4").id == case.id
                assert ended == [], "streams go on while it drains"
                until_closed(running)
                stream.join(20)
        assert len(ended) == 1, "the stream came to its end, not to an error"
    assert kept(tmp_path) == {(case.id, "face"): hashlib.sha256(video).hexdigest()}
