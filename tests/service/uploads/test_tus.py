"""What a tus request says, and how far an upload has come: strict, and the same on each kind of database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect

from service.errors import (
    ChecksumError,
    StepTakenError,
    TusRequestError,
    TusVersionError,
    UploadEndedError,
    UploadOffsetError,
    UploadPiecesError,
    UploadTimeoutError,
)
from service.evidence.evidence import Evidence
from service.lifecycle.case import Case
from service.lifecycle.identifiers import time_ordered
from service.lifecycle.transitions import accept, cancel
from service.store.cases import CaseStore
from service.store.resumable import Piece, Resumable, ResumableStore
from service.store.rows import Upload
from service.uploads import resumable
from service.uploads.resumable import Arrival
from service.uploads.tus_protocol import Checksum, length_of, media_type_of, offset_of, require_version
from tests.support.case_stores import NOW, created

LATER = NOW + timedelta(hours=1)
B64 = base64.b64encode(b"video/mp4").decode()


@pytest.mark.parametrize(
    ("metadata", "media_type"),
    [
        (f"filetype {B64}", "video/mp4"),
        (f"filename {B64},filetype {base64.b64encode(b'Video/WebM; codecs=vp9').decode()}", "video/webm"),
        (f"is_confidential , filetype {B64}", "video/mp4"),
        ("name w7ZsYQ==", ""),
        ("", ""),
        (f"filetype {base64.b64encode(bytes([255, 254])).decode()}", "��"),
    ],
)
def test_the_media_type_is_all_that_metadata_give(metadata: str, media_type: str) -> None:
    assert media_type_of({"upload-metadata": metadata}) == media_type


@pytest.mark.parametrize(
    "metadata",
    ["filetype video/mp4", f"filetype {B64},filetype {B64}", f"filetype  {B64}", f", filetype {B64}", "ä YQ==", "a YQ=",
     "a " + "A" * 5000],
)  # fmt: skip
def test_other_metadata_are_refused(metadata: str) -> None:
    with pytest.raises(TusRequestError):
        media_type_of({"upload-metadata": metadata})


@pytest.mark.parametrize("given", [None, "", "-1", "+1", "1.0", "0x10", "1 ", "٣", "9" * 19])
def test_a_number_of_bytes_is_digits(given: str | None) -> None:
    headers = {} if given is None else {"upload-length": given, "upload-offset": given}
    for read in (length_of, offset_of):
        with pytest.raises(TusRequestError):
            read(headers)
    assert length_of({"upload-length": "50000000"}) == 50_000_000


def test_extensions_that_are_not_there_and_other_versions_are_refused() -> None:
    for header in ("upload-concat", "upload-defer-length"):
        with pytest.raises(TusRequestError):
            length_of({"upload-length": "1", header: "1"})
    for version in ({}, {"tus-resumable": "0.2.2"}):
        with pytest.raises(TusVersionError):
            require_version(version)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_is_of_all_bytes(algorithm: str) -> None:
    value = base64.b64encode(hashlib.new(algorithm, b"abcdef").digest()).decode()
    for parts, right in (((b"abc", b"def"), True), ((b"abc",), False)):
        checksum = Checksum.of({"upload-checksum": f"{algorithm} {value}"})
        assert checksum is not None
        for part in parts:
            checksum.update(part)
        if right:
            checksum.require()
        else:
            with pytest.raises(ChecksumError):
                checksum.require()
    assert Checksum.of({}) is None
    for text in (f"md5 {value}", f"{algorithm} {value[4:]}", f"{algorithm}", f"{algorithm} !"):
        with pytest.raises(TusRequestError):
            Checksum.of({"upload-checksum": text})


async def added(rows: ResumableStore, case: Case) -> Resumable:
    upload = Resumable(time_ordered("upload"), case.id, "front", "video/mp4", 100, 0, LATER, False, False)
    await rows.add(upload, NOW)
    return upload


def piece(case: Case, start: int, end: int) -> Piece:
    return Piece(start, end, f"cases/{case.id}/{time_ordered('piece')}.media")


async def offset(rows: ResumableStore, upload: Resumable) -> int:
    found = await rows.get(upload.id, NOW)
    assert found
    return found.offset


async def test_of_two_that_write_the_same_bytes_one_wins(store: CaseStore) -> None:
    """As two API processes do when a client that lost its connection goes on at another one."""
    rows, case = ResumableStore(store.database), await created(store)
    upload = await added(rows, case)

    async def write() -> Piece | None:
        mine = piece(case, 0, 10)
        try:
            await rows.append(upload.id, [mine], 10, NOW, LATER)
        except UploadOffsetError:
            return None
        return mine

    written = [mine for mine in await asyncio.gather(*(write() for _ in range(8))) if mine]
    assert [mine.key for mine in written] == await rows.pieces(upload.id)
    assert await offset(rows, upload) == 10
    await rows.append(upload.id, [piece(case, 10, 20), piece(case, 20, 30)], 3, NOW, LATER)
    with pytest.raises(UploadPiecesError):
        await rows.append(upload.id, [piece(case, 30, 31)], 3, NOW, LATER)
    assert (await offset(rows, upload), len(await rows.pieces(upload.id))) == (30, 3)
    assert set(await rows.pieces(upload.id)) <= await store.evidence_keys()


async def test_what_has_ended_takes_nothing_and_wants_no_pieces(store: CaseStore) -> None:
    rows = ResumableStore(store.database)
    for end in ("terminated", "expired", "closed", "surplus"):
        case = await created(store)
        upload = await added(rows, case)
        first = piece(case, 0, 10)
        await rows.append(upload.id, [first], 10, NOW, LATER)
        now = NOW
        if end == "terminated":
            await rows.end(upload.id, NOW)
        elif end == "expired":
            now = LATER
        elif end == "closed":
            await store.change(case.id, lambda case: cancel(case, NOW))
        else:
            for number in range(3):
                more = replace(upload, id=time_ordered("upload"))
                assert await rows.add(more, NOW) == (number == 2)
        assert await rows.unwanted() == ([first.key] if end in ("terminated", "surplus") else [])
        told = [upload.step] if end in ("expired", "closed") else []
        assert await rows.end_overdue(now) == told, "what ends by this is told once"
        assert await rows.end_overdue(now) == []
        assert await rows.unwanted() == [first.key], end
        with pytest.raises(UploadEndedError):
            await rows.append(upload.id, [piece(case, 10, 20)], 10, NOW, LATER)
        await rows.forget([first.key])
        assert await rows.unwanted() == []
        found = await rows.get(upload.id, NOW)
        assert found
        assert found.ended
        await rows.end_overdue(LATER + timedelta(days=1))
        assert await rows.get(upload.id, NOW) is None


async def test_an_upload_is_complete_in_the_moment_in_which_the_case_has_it(store: CaseStore) -> None:
    rows, case = ResumableStore(store.database), await created(store)
    upload = await added(rows, case)
    first = piece(case, 0, 10)
    await rows.append(upload.id, [first], 10, NOW, LATER)
    assert await offset(rows, upload) == 10

    def row(case: Case) -> Upload:
        return Upload(upload.id, case.id, "front", 1, f"cases/{case.id}/front.media", "f" * 64, {}, NOW)

    await store.change(case.id, lambda case: accept(case, "front", NOW, "replica_a"), upload=row)
    found = await rows.get(upload.id, LATER)
    assert found
    assert (found.offset, found.accepted, found.ended) == (100, True, False)
    assert await rows.unwanted() == [first.key]
    with pytest.raises(StepTakenError):
        await store.change(case.id, lambda case: accept(case, "front", NOW, "replica_b"), upload=row)


@pytest.mark.parametrize("end", ["cut", "silent"])
@pytest.mark.parametrize("checked", [False, True])
async def test_a_body_without_its_end_never_makes_an_upload_complete(
    store: CaseStore, tmp_path: Path, end: str, checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bytes of it may have come: the last one is left to send, because `complete` means that the case has it."""
    monkeypatch.setattr(resumable, "_SILENCE_S", 0.5)
    evidence, rows = Evidence(tmp_path, store), ResumableStore(store.database)
    evidence.start(set())
    case = await created(store)
    until = datetime.now(UTC) + timedelta(hours=1)
    upload = Resumable(time_ordered("upload"), case.id, "front", "video/mp4", 5_000_000, 0, until, False, False)
    await rows.add(upload, NOW)

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, upload.length, 100_000):
            yield start.to_bytes(4, "big") * 25_000
        if end == "cut":
            raise ClientDisconnect
        await asyncio.sleep(60)

    digest = base64.b64encode(bytes(20)).decode()
    checksum = Checksum.of({"upload-checksum": f"sha1 {digest}"}) if checked else None
    arrival = Arrival(rows, evidence, upload, checksum, lambda _: until)
    with pytest.raises(ClientDisconnect if end == "cut" else UploadTimeoutError):
        await arrival.all_of(body(), 60.0)
    came = b"".join([await evidence.read(key) for key in await rows.pieces(upload.id)])
    whole = b"".join(start.to_bytes(4, "big") * 25_000 for start in range(0, upload.length, 100_000))
    assert came == (b"" if checked else whole[:-1])
    assert await offset(rows, upload) == len(came)
    found = await asyncio.to_thread(lambda: [path.suffix for path in tmp_path.rglob("*") if path.is_file()])
    assert (found.count(".media"), found.count(".part")) == (0 if checked else 2, 0)
    evidence.close()
