"""Resumable uploads over real HTTP: a real client, a network that cuts, a killed API, and who asks wrongly."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import signal
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import create_engine, delete
from tusclient.client import TusClient

from service.assembly import opened_stores
from service.client import VeridaskClient
from service.server.local import Running
from service.store.tables import PieceRow
from tests.support.cutting_proxy import CuttingProxy
from tests.support.data_folders import server_in, settings_in
from tests.support.resumable import (
    BODY,
    MARKER,
    MIB,
    VERSION,
    begun,
    created,
    device,
    half_sent,
    offset,
    padded,
    patched,
)
from tests.support.waiting import until

pytestmark = pytest.mark.cluster


def kept(folder: Path, case_id: str) -> dict[str, str]:
    """SHA-256 of the decrypted evidence of each step; it is that of the row as well."""

    async def read() -> dict[str, str]:
        async with opened_stores(settings_in(folder)) as (store, evidence):
            found: dict[str, str] = {}
            for upload in await store.uploads(case_id):
                digest = hashlib.sha256(await evidence.read(upload.evidence_key)).hexdigest()
                assert digest == upload.sha256
                found[upload.step] = digest
            return found

    return asyncio.run(read())


def pieces(folder: Path, case_id: str) -> list[Path]:
    return list((folder / "evidence" / "cases" / case_id).glob("piece-*"))


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    if answer.request.method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code


def test_50_mb_that_are_cut_three_times_arrive_as_they_were(server: Running, server_folder: Path, video: bytes) -> None:
    media = padded(video, 50_000_000)
    case = created(server.url, server.key)
    with CuttingProxy(urlsplit(server.url).port or 0, [9_000_000, 17_000_003, 6_000_001]) as proxy:
        tus = TusClient(
            f"{proxy.url}/v1/cases/{case.id}/uploads/face/tus",
            headers={"Authorization": f"Bearer {case.client_secret}"},
        )
        uploader = tus.uploader(
            file_stream=io.BytesIO(media),
            metadata={"filename": "f", "filetype": "video/mp4"},
            retries=50,
            retry_delay=0,
        )
        uploader.upload()
        assert proxy.cuts == [], "it was cut three times"
    assert kept(server_folder, case.id) == {"face": hashlib.sha256(media).hexdigest()}
    assert pieces(server_folder, case.id) == []
    with VeridaskClient(server.url, server.key) as client:
        assert {step.step: step.attempts for step in client.case(case.id).steps}["face"] == 1
        client.cancel(case.id)


def test_what_was_acknowledged_outlives_a_killed_api(cluster: str, tmp_path: Path, video: bytes) -> None:
    media = padded(video, 20 * MIB)
    with server_in(tmp_path, cluster) as local:
        running = local.start()
        case = created(running.url, running.key)
        with device(running.url, case) as http:
            path = begun(http, case, len(media))
            assert patched(http, path, 0, media[: 3 * MIB]).headers["upload-offset"] == str(3 * MIB)
            connection = half_sent(running.url, case, path, media[3 * MIB : 16 * MIB], 17 * MIB, at=3 * MIB)
            until(lambda: offset(http, path) >= 11 * MIB)
            acknowledged = offset(http, path)
        os.kill(running.processes["api"], signal.SIGKILL)
        assert local.process is not None
        local.process.wait()
        connection.close()
        assert sum(piece.stat().st_size for piece in pieces(tmp_path, case.id)) > acknowledged
        for file in tmp_path.rglob("*"):
            assert file.is_dir() or MARKER not in file.read_bytes(), file
            assert "ottilie" not in file.name
            assert file.is_dir() or b"ottilie" not in file.read_bytes(), file
        running = local.start()
        with device(running.url, case) as http:
            assert acknowledged <= offset(http, path) < len(media)
        tus = TusClient("", headers={"Authorization": f"Bearer {case.client_secret}"})
        tus.uploader(file_stream=io.BytesIO(media), url=running.url + path, chunk_size=5 * MIB).upload()
    assert kept(tmp_path, case.id) == {"face": hashlib.sha256(media).hexdigest()}


def test_a_lost_last_answer(server: Running, server_folder: Path, video: bytes) -> None:
    """Whoever did not hear it asks again, and is told that all has come."""
    case = created(server.url, server.key)
    with device(server.url, case) as http:
        path = begun(http, case, len(video))
        with half_sent(server.url, case, path, video, len(video)):
            until(lambda: offset(http, path) == len(video))
        assert patched(http, path, len(video), b"").headers["upload-offset"] == str(len(video))
        refused(patched(http, path, 0, video), 409, "upload_offset")
        refused(http.delete(path, headers=VERSION), 409, "step_not_open")
        refused(
            http.post(
                path.rsplit("/", 1)[0],
                headers={**VERSION, "Upload-Length": "9", "Upload-Metadata": "filetype dmlkZW8vbXA0"},
            ),
            409,
            "step_not_open",
        )
    assert kept(server_folder, case.id) == {"face": hashlib.sha256(video).hexdigest()}


def test_one_writes_at_a_time(server: Running, video: bytes) -> None:
    media = padded(video, 10 * MIB)
    case = created(server.url, server.key)
    with device(server.url, case) as http:
        path = begun(http, case, len(media))
        with half_sent(server.url, case, path, media[: 9 * MIB], len(media)):
            until(lambda: offset(http, path) == 8 * MIB)
            refused(patched(http, path, 8 * MIB, media[8 * MIB :]), 423, "upload_busy")
            refused(http.delete(path, headers=VERSION), 423, "upload_busy")
        until(lambda: offset(http, path) == 9 * MIB)  # what came before the cut was kept
        assert patched(http, path, 9 * MIB, media[9 * MIB :]).status_code == 204
        assert offset(http, path) == len(media)


def test_bytes_with_a_checksum_count_all_or_not_at_all(server: Running, server_folder: Path, video: bytes) -> None:
    media = padded(video, 9 * MIB)
    case = created(server.url, server.key)

    def checksum(content: bytes) -> str:
        return f"sha1 {base64.b64encode(hashlib.sha1(content).digest()).decode()}"  # noqa: S324

    with device(server.url, case) as http:
        path = begun(http, case, len(media))
        wrong = patched(http, path, 0, media, Upload_Checksum=checksum(b"other"))
        refused(wrong, 460, "checksum_mismatch")
        assert (offset(http, path), pieces(server_folder, case.id)) == (0, [])
        refused(patched(http, path, 0, media, Upload_Checksum="crc32 AAAA"), 400, "invalid_tus_request")
        assert patched(http, path, 0, media[: 5 * MIB], Upload_Checksum=checksum(media[: 5 * MIB])).status_code == 204
        assert offset(http, path) == 5 * MIB
        assert patched(http, path, 5 * MIB, media[5 * MIB :], Upload_Checksum=checksum(media[5 * MIB :])).is_success
    assert kept(server_folder, case.id) == {"face": hashlib.sha256(media).hexdigest()}


def test_wrong_requests_are_told_so_and_change_nothing(server: Running, server_folder: Path, video: bytes) -> None:
    case, other = created(server.url, server.key), created(server.url, server.key)
    base = f"/v1/cases/{case.id}/uploads/face/tus"
    named = {"Upload-Metadata": f"filetype {base64.b64encode(b'video/mp4').decode()}"}
    with device(server.url, case) as http, device(server.url, other) as stranger:
        for headers, status, code in (
            (named | {"Upload-Length": "9"}, 412, "unsupported_tus_version"),
            (named | {"Upload-Length": "9", "Tus-Resumable": "0.2.2"}, 412, "unsupported_tus_version"),
            (named | VERSION, 400, "invalid_tus_request"),
            (named | VERSION | {"Upload-Defer-Length": "1"}, 400, "invalid_tus_request"),
            (named | VERSION | {"Upload-Length": "0"}, 422, "empty_media"),
            (named | VERSION | {"Upload-Length": str(64 * MIB + 1)}, 413, "media_too_large"),
            (VERSION | {"Upload-Length": "9"}, 415, "wrong_media_type"),
            (VERSION | {"Upload-Length": "9", "Upload-Metadata": "filetype %"}, 400, "invalid_tus_request"),
        ):
            answer = http.post(base, headers=headers)
            refused(answer, status, code)
            assert answer.headers.get("tus-version") == ("1.0.0" if status == 412 else None)
        refused(http.post(base.replace("face", "elbow"), headers=VERSION | named), 400, "invalid_tus_request")
        unknown = http.post(base.replace("face", "elbow"), headers=VERSION | named | {"Upload-Length": "9"})
        refused(unknown, 404, "unknown_step")

        path = begun(http, case, len(video))
        refused(stranger.head(path, headers=VERSION), 401, "")
        refused(patched(stranger, path, 0, video), 401, "wrong_client_secret")
        refused(patched(stranger, path.replace(case.id, other.id), 0, video), 404, "unknown_upload")
        refused(patched(http, path.replace("face", "front"), 0, video), 404, "unknown_upload")
        refused(patched(http, path, 1, video[1:]), 409, "upload_offset")
        refused(http.patch(path, headers=BODY, content=video), 400, "invalid_tus_request")
        refused(http.patch(path, headers=VERSION | {"Upload-Offset": "0"}, content=video), 415, "wrong_media_type")
        refused(patched(http, path, 0, video + b"x"), 413, "media_too_large")
        refused(
            http.patch(path, headers=BODY | {"Upload-Offset": "0"}, content=iter([video, b"x"])), 413, "media_too_large"
        )
        refused(http.post(path, headers=VERSION | {"X-HTTP-Method-Override": "GET"}), 405, "method_not_allowed")
        assert (offset(http, path), pieces(server_folder, case.id)) == (0, [])

        for other_method in ("PATCH", "DELETE"):
            override = {**BODY, "X-HTTP-Method-Override": other_method, "Upload-Offset": "0"}
            assert http.post(path, headers=override, content=video[:9]).status_code == 204
        refused(http.head(path, headers=VERSION), 410, "")
        assert pieces(server_folder, case.id) == []
    for url in (base, path, base.replace(case.id, "case_none")):
        found = httpx.options(server.url + url)
        assert (found.status_code, found.headers["tus-version"]) == (204, "1.0.0")
        assert found.headers["tus-extension"] == "creation,creation-with-upload,termination,expiration,checksum"
        assert found.headers["tus-max-size"] == str(64 * MIB)
        assert found.headers["tus-checksum-algorithm"] == "sha1,sha256"
    assert "ottilie" not in (server_folder / "server.log").read_text("utf-8")


def test_a_media_that_is_refused_leaves_the_step_open(server: Running, server_folder: Path, video: bytes) -> None:
    """As by PUT: here it is no film, and a picture in place of one."""
    case = created(server.url, server.key)
    with device(server.url, case) as http:
        path = begun(http, case, 5 * MIB)
        refused(patched(http, path, 0, bytes(5 * MIB)), 422, "undecodable_media")
        refused(http.head(path, headers=VERSION), 410, "")
        assert pieces(server_folder, case.id) == []
        assert http.get(f"/v1/cases/{case.id}").json()["steps"][0]["state"] == "wanted"
        base = f"/v1/cases/{case.id}/uploads/face/tus"
        metadata = f"filetype {base64.b64encode(b'video/mp4').decode()}"
        whole = http.post(
            base, headers={**BODY, "Upload-Length": str(len(video)), "Upload-Metadata": metadata}, content=video
        )
        assert (whole.status_code, whole.headers["upload-offset"]) == (201, str(len(video)))
    assert kept(server_folder, case.id) == {"face": hashlib.sha256(video).hexdigest()}


def test_what_is_left_without_a_piece_does_not_pass_for_the_media(
    server: Running, server_folder: Path, video: bytes
) -> None:
    """A film without the end of its padding could still be opened."""
    media = padded(video, 9 * MIB)
    case = created(server.url, server.key)
    with device(server.url, case) as http:
        path = begun(http, case, len(media))
        assert patched(http, path, 0, media[:-9]).status_code == 204
        database = create_engine(settings_in(server_folder).store_url)
        lost = delete(PieceRow).where(PieceRow.upload_id == path.rsplit("/", 1)[1], PieceRow.start > 0)
        with database.begin() as store:
            assert store.execute(lost).rowcount > 0
        database.dispose()
        refused(patched(http, path, len(media) - 9, media[-9:]), 503, "evidence_unavailable")
        assert offset(http, path) == len(media) - 9
        assert http.delete(path, headers=VERSION).status_code == 204
    assert kept(server_folder, case.id) == {}


@pytest.fixture(scope="module")
def brief(cluster: str, server: Running, server_folder: Path) -> Iterator[Running]:
    """Another API process on the same folder, where unfinished uploads live for two seconds."""
    with server_in(server_folder, cluster, resumable_s=2, sweep_interval_s=0.2) as local:
        yield local.start()


def test_an_upload_goes_on_at_another_api_process(
    server: Running, brief: Running, server_folder: Path, video: bytes
) -> None:
    case = created(server.url, server.key)
    with device(brief.url, case) as one, device(server.url, case) as other:
        path = begun(other, case, len(video))
        assert patched(other, path, 0, video[:100]).status_code == 204
        assert offset(one, path) == 100
        assert patched(one, path, 100, video[100:200]).status_code == 204
        refused(patched(other, path, 100, video[100:]), 409, "upload_offset")
        assert patched(other, path, 200, video[200:]).status_code == 204
        assert offset(one, path) == len(video)
    assert kept(server_folder, case.id) == {"face": hashlib.sha256(video).hexdigest()}


def test_unfinished_uploads_end_with_their_time_and_with_their_case(
    brief: Running, server_folder: Path, video: bytes
) -> None:
    case = created(brief.url, brief.key)
    with device(brief.url, case) as http:
        path = begun(http, case, len(video))
        answer = patched(http, path, 0, video[:100])
        assert parsedate_to_datetime(answer.headers["upload-expires"]).timestamp() - time.time() <= 2
        assert len(pieces(server_folder, case.id)) == 1
        until(lambda: http.head(path, headers=VERSION).status_code == 410)
        refused(patched(http, path, 100, video[100:]), 410, "upload_ended")
        until(lambda: pieces(server_folder, case.id) == [])
        path = begun(http, case, len(video))
        patched(http, path, 0, video[:100])
        with VeridaskClient(brief.url, brief.key) as client:
            client.cancel(case.id)
        assert http.head(path, headers=VERSION).status_code == 410
        until(lambda: pieces(server_folder, case.id) == [])
