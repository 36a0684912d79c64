"""Bad input over real HTTP: each gets the answer that the API names, and the case stays usable."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import pytest

from service.client import VeridaskClient
from service.http import problems
from service.schemas.cases import CreatedView
from service.server.local import Running

pytestmark = pytest.mark.cluster

MP4 = {"Content-Type": "video/mp4"}
LIMIT = 64 * 1024 * 1024


@pytest.fixture
def case(client: VeridaskClient) -> Iterator[CreatedView]:
    case = client.create()
    yield case
    client.cancel(case.id) if client.case(case.id).status in ("requires_input", "processing") else None


def put(http: httpx.Client, case: CreatedView, step: str, content: object, headers: dict[str, str]) -> httpx.Response:
    return http.put(f"/v1/cases/{case.id}/uploads/{step}", content=content, headers=headers)  # type: ignore[arg-type]


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code), document
    assert {"type", "title", "detail"} <= document.keys()
    assert "Traceback" not in answer.text
    assert "/" not in document["detail"].replace("video/", "").replace("image/", ""), "a path of the server leaked"


def assert_usable(client: VeridaskClient, case: CreatedView, video: bytes) -> None:
    """The step is as open as before, and takes a good upload."""
    assert {step.state for step in client.case(case.id).steps} == {"wanted"}
    after = client.upload(case.id, "front", video, "video/mp4")
    assert {step.step: step.attempts for step in after.steps} == {"front": 1, "back": 0, "face": 0}


def truncated(video: bytes) -> bytes:
    return video[: len(video) // 3]


def without_frames(video: bytes) -> bytes:
    """The header's box says that the movie has no samples at all."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "empty_moov"}) as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        output.start_encoding()
    return file.getvalue()


def test_empty_body(client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes) -> None:
    assert_problem(put(http, case, "front", b"", MP4), 422, "empty_media")
    assert_problem(put(http, case, "front", iter([b""]), MP4), 422, "empty_media")
    assert_usable(client, case, video)


@pytest.mark.parametrize("broken", ["truncated", "noise", "text"])
def test_undecodable(client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes, broken: str) -> None:
    content = {
        "truncated": truncated(video),
        "noise": video[:64] + bytes(range(256)) * 40,
        "text": b"this is no video " * 100,
    }[broken]
    answer = put(http, case, "front", content, MP4)
    assert answer.status_code in (422, 415), answer.text
    assert answer.json()["code"] in ("undecodable_media", "empty_media", "wrong_media_type")
    if broken == "truncated":
        assert answer.status_code == 422
    assert_usable(client, case, video)


def test_no_frames(client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes) -> None:
    answer = put(http, case, "front", without_frames(video), MP4)
    assert answer.status_code == 422
    assert answer.json()["code"] in ("empty_media", "undecodable_media")
    assert_usable(client, case, video)


def test_mislabelled(
    client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes, picture: bytes
) -> None:
    assert_problem(put(http, case, "front", picture, MP4), 415, "wrong_media_type")
    assert_problem(put(http, case, "front", video, {"Content-Type": "video/webm"}), 415, "wrong_media_type")
    assert_usable(client, case, video)


def test_an_image_where_a_video_is_wanted(
    client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes, picture: bytes
) -> None:
    assert_problem(put(http, case, "face", picture, {"Content-Type": "image/jpeg"}), 415, "wrong_media_type")
    assert_usable(client, case, video)


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "text/html", "video/x-msvideo", "multipart/form-data"]
)
def test_wrong_content_type(
    client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes, content_type: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert_problem(put(http, case, "front", video, headers), 415, "wrong_media_type")
    assert_usable(client, case, video)


def test_too_large_by_its_announced_length(
    client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes
) -> None:
    assert_problem(put(http, case, "front", bytes(LIMIT + 1), MP4), 413, "media_too_large")
    assert_usable(client, case, video)


def test_too_large_without_an_announced_length(
    client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes
) -> None:
    chunks = (bytes(1024 * 1024) for _ in range(70))
    assert_problem(put(http, case, "front", chunks, MP4), 413, "media_too_large")
    assert_usable(client, case, video)


def test_wrong_step_case_and_profile(
    http: httpx.Client, client: VeridaskClient, case: CreatedView, video: bytes
) -> None:
    assert_problem(put(http, case, "left_hand", video, MP4), 404, "unknown_step")
    for case_id in ("case_" + "0" * 26, "case_x", "..%2f..%2fetc"):
        assert http.put(f"/v1/cases/{case_id}/uploads/front", content=video, headers=MP4).status_code == 404
    assert_problem(http.get("/v1/cases/case_" + "0" * 26), 404, "unknown_case")
    assert_problem(http.get("/v1/cases/case_" + "0" * 26 + "/events"), 404, "unknown_case")
    assert_problem(http.post("/v1/cases", json={"profile": "no such"}), 404, "unknown_profile")
    assert_problem(http.get("/v1/nothing"), 404, "not_found")
    assert_problem(http.delete(f"/v1/cases/{case.id}"), 405, "method_not_allowed")
    assert_usable(client, case, video)


def test_a_problem_holds_up_nothing_that_comes_after_it(server: Running, case: CreatedView, video: bytes) -> None:
    """After a problem whose request had been read to its end, the connection was kept for five seconds to wait for the
    rest of it, and with it the client's next request.
    """
    one = httpx.Limits(max_connections=1)
    key = {"Authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.url, headers=key, limits=one, timeout=problems._LINGER_S / 2) as http:
        for _ in range(2):
            assert http.post("/v1/cases", json={"profile": "no such"}).status_code == 404
            assert put(http, case, "front", video, {"Content-Type": "video/webm"}).status_code == 415
            assert http.get("/healthz").status_code == 200


def test_two_uploads_of_one_step_at_once(
    http: httpx.Client, client: VeridaskClient, case: CreatedView, video: bytes
) -> None:
    together = Barrier(2)

    def upload(_: int) -> int:
        together.wait()
        return put(http, case, "back", video, MP4).status_code

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(upload, range(2))) == [202, 409]
    state = {step.step: step for step in client.case(case.id).steps}
    assert state["back"].attempts == 1


def test_upload_after_the_case_was_closed(http: httpx.Client, client: VeridaskClient, video: bytes) -> None:
    case = client.create()
    client.cancel(case.id)
    assert client.cancel(case.id).status == "canceled"
    assert_problem(put(http, case, "front", video, MP4), 409, "case_not_open")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"profile": 5}',
        b'{"profil": "standard"}',
        b'{"metadata": {"a": {}}}',
        b'{"client_reference_id": ""}',
        b'{"client_reference_id": "a\\u0000b"}',
        b'{"client_reference_id": "\\ud800"}',
        b'{"metadata": {"k": "' + b"x" * 501 + b'"}}',
    ],
)
def test_malformed_json(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/cases", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "invalid_request")


def test_a_json_body_that_is_too_large(http: httpx.Client) -> None:
    body = b'{"profile": "' + b"x" * 100_000 + b'"}'
    answer = http.post("/v1/cases", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 413, "request_too_large")


def test_a_body_that_breaks_off_is_never_taken(
    client: VeridaskClient, http: httpx.Client, case: CreatedView, video: bytes
) -> None:
    import socket
    from urllib.parse import urlsplit

    address = urlsplit(str(http.base_url))
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"PUT /v1/cases/{case.id}/uploads/front HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\n"
        head += f"Authorization: {http.headers['Authorization']}\r\n"
        connection.sendall(f"{head}Content-Length: {len(video)}\r\n\r\n".encode() + video[:-1])
    assert_usable(client, case, video)


def test_a_wrong_secret_opens_nothing(server: object, http: httpx.Client, case: CreatedView, video: bytes) -> None:
    headers = {**MP4, "Authorization": "Bearer secret_of_another_case"}
    assert_problem(put(http, case, "front", video, headers), 401, "wrong_client_secret")
    path = f"/v1/cases/{case.id}"
    assert http.get(path, headers={"Authorization": "Bearer x"}).status_code == 401
    assert http.get(path, headers={"Authorization": f"Bearer {case.client_secret}"}).status_code == 200
