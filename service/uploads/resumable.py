"""Uploads that continue after a lost connection: their bytes are stored in pieces, and the complete media is then
uploaded to its step like any other (`service.cases.commands`).

Received bytes are cut into pieces of 4 MiB; the last piece of a request may be shorter. Each piece is encrypted as an
entry of its own (`service.evidence.evidence`), so that nothing is encrypted twice, and counts once both the file and
its row (`service.store.resumable`) are durable. The last bytes of the upload, at most 4 MiB, stay in memory until the
whole media is stored. So an offset equal to the length always means that the upload was accepted, and after any earlier
failure there are still bytes to send.

`service.uploads.tus_protocol` parses the requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from starlette.requests import ClientDisconnect

from models.errors import MediaError, MediaTooLargeError
from service.cases.commands import Cases
from service.errors import (
    CaseClosedError,
    ConflictError,
    EvidenceUnavailableError,
    ServiceError,
    StepTakenError,
    UnknownUploadError,
    UploadBusyError,
    UploadEndedError,
    UploadOffsetError,
    UploadTimeoutError,
)
from service.evidence.evidence import Evidence
from service.lifecycle.case import Case
from service.lifecycle.identifiers import time_ordered
from service.settings.settings import Settings
from service.store.cases import CaseStore
from service.store.resumable import Piece, Resumable, ResumableStore
from service.uploads.tus_protocol import Checksum

log = structlog.get_logger()

_PIECE = 4 * 1024 * 1024
"""Bytes of a full piece: the most that a killed process loses, and the memory per sender. Storing a piece takes some
milliseconds.
"""
_SMALL_PIECES = 1000
"""Most pieces below full size, from short requests. Each is a file."""
_SILENCE_S = 15.0
"""After this long without a byte the sender counts as gone, so that its next request need not wait."""


class ResumableUploads:
    """Creates, continues and ends resumable uploads. Each method may raise StoreUnavailableError."""

    def __init__(
        self, settings: Settings, store: CaseStore, rows: ResumableStore, evidence: Evidence, cases: Cases
    ) -> None:
        self._settings = settings
        self._store = store
        self._rows = rows
        self._evidence = evidence
        self._cases = cases
        self._telemetry = cases.telemetry
        self._locked: set[str] = set()

    async def create(self, case: Case, step_name: str, media_type: str, length: int) -> Resumable:
        """Begin an upload of that many bytes.

        Raises as `Cases.require_upload_allowed`, and EvidenceUnavailableError.
        """
        step = self._cases.require_upload_allowed(case, step_name, media_type, length)
        await self._evidence.require_usable()
        upload_id, now = time_ordered("upload"), datetime.now(UTC)
        upload = Resumable(upload_id, case.id, step, media_type, length, 0, self._until(now), False, False)
        for _ in range(await self._rows.add(upload, now)):
            self._telemetry.resumable(step, "ended")
        self._telemetry.resumable(step, "begun")
        log.info("resumable_upload_created", case_id=case.id, step=step, upload_id=upload_id, bytes=length)
        return upload

    async def get(self, case: Case, step_name: str, upload_id: str) -> Resumable:
        """The upload with its current offset. Raises UnknownUploadError, UploadEndedError."""
        upload = await self._rows.get(upload_id, datetime.now(UTC))
        if upload is None or (upload.case_id, upload.step) != (case.id, step_name):
            raise UnknownUploadError("This step has no upload with this id.")
        structlog.contextvars.bind_contextvars(upload_id=upload_id)
        if upload.ended or not (upload.accepted or case.is_open):
            raise UploadEndedError(
                "The upload expired, was ended or was refused, or its case is closed. Begin a new upload."
            )
        return upload

    async def append(
        self,
        case: Case,
        step_name: str,
        upload_id: str,
        offset: int,
        length: int | None,
        checksum: Checksum | None,
        body: AsyncIterator[bytes],
        by: str,
    ) -> Resumable:
        """Take the bytes from `offset` on; gives how far the upload has come, once that is durable. With the last byte
        it becomes the upload of its step.

        length: of the body in bytes, when it was announced. by: who asks, for the audit log. Bytes that come with a
        checksum count all or not at all; of others those count that came before the sender went away (ClientDisconnect)
        or was silent (UploadTimeoutError). Raises as `get` and `Cases.upload`, UploadBusyError, UploadOffsetError,
        UploadPiecesError, ChecksumError, MediaTooLargeError for more bytes than the upload has. An upload that is
        refused has ended.
        """
        if upload_id in self._locked:
            raise UploadBusyError("Another request is writing to this upload. Try again when it has ended.")
        self._locked.add(upload_id)
        try:
            upload = await self.get(case, step_name, upload_id)
            if upload.offset != offset:
                raise UploadOffsetError(f"The next byte of this upload is {upload.offset}. Continue there.")
            if length is not None and length > upload.length - offset:
                raise MediaTooLargeError(
                    "The body is longer than what is left of the upload. Check Upload-Length and Upload-Offset."
                )
            if upload.accepted:
                return upload
            self._cases.require_upload_allowed(case, step_name, upload.media_type, upload.length)
            arrival = Arrival(self._rows, self._evidence, upload, checksum, self._until)
            with self._telemetry.arrival(case.id, upload.step, upload_id, lambda: arrival.counted):
                tail = await arrival.all_of(body, self._settings.upload_timeout_s)
            if tail:
                await self._complete(upload, tail, by)
            return await self.get(case, step_name, upload_id)
        finally:
            self._locked.discard(upload_id)

    async def end(self, case: Case, step_name: str, upload_id: str) -> None:
        """Throw an upload away. Raises as `get`, UploadBusyError, and StepTakenError when it was accepted."""
        upload = await self.get(case, step_name, upload_id)
        if upload_id in self._locked:
            raise UploadBusyError("Another request is writing to this upload. Try again when it has ended.")
        if upload.accepted:
            raise StepTakenError("The upload was accepted and belongs to the case. It cannot be deleted.")
        await self._end(upload)

    async def sweep(self, now: datetime) -> None:
        """End expired uploads and remove pieces that are no longer needed.

        Raises EvidenceUnavailableError, StoreUnavailableError.
        """
        for step in await self._rows.end_overdue(now):
            self._telemetry.resumable(step, "ended")
        while keys := await self._rows.unwanted():
            await self._remove(keys)

    def _until(self, now: datetime) -> datetime:
        return (now + timedelta(seconds=self._settings.resumable_s)).replace(microsecond=0)

    async def _complete(self, upload: Resumable, tail: bytes, by: str) -> None:
        now = await self._rows.get(upload.id, datetime.now(UTC))
        if now is None or now.offset != upload.length - len(tail):
            raise UploadOffsetError(
                "Another request wrote these bytes. Ask for the offset with HEAD, then continue there."
            )
        case, keys = await self._store.get(upload.case_id), await self._rows.pieces(upload.id)
        body = self._whole(keys, tail, upload.length)
        try:
            await self._cases.upload(case, upload.step, upload.media_type, upload.length, body, by, upload.id)
        except (StepTakenError, ConflictError):
            # Another request, perhaps to another process, may have sent the last bytes of this same upload.
            again = await self._rows.get(upload.id, datetime.now(UTC))
            if again is None or not again.accepted:
                await self._end(upload)
                raise
        except (MediaError, CaseClosedError):
            await self._end(upload)
            raise
        else:
            self._telemetry.resumable(upload.step, "accepted")
        with contextlib.suppress(ServiceError):  # the next sweep removes them
            await self._remove(keys)

    async def _whole(self, keys: Sequence[str], tail: bytes, length: int) -> AsyncIterator[bytes]:
        size = 0
        for key in keys:
            piece = await self._evidence.read(key)
            size += len(piece)
            yield piece
        if size + len(tail) != length:  # they were removed meanwhile: what is left must not pass for the media
            raise EvidenceUnavailableError("A piece of the upload is missing. Begin a new upload.")
        yield tail

    async def _end(self, upload: Resumable) -> None:
        await self._rows.end(upload.id, datetime.now(UTC))
        self._telemetry.resumable(upload.step, "ended")
        log.info("resumable_upload_ended", case_id=upload.case_id, upload_id=upload.id)
        with contextlib.suppress(ServiceError):  # the next sweep removes them
            await self._remove(await self._rows.pieces(upload.id))

    async def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._evidence.remove(key)
        await self._rows.forget(keys)


class Arrival:
    """Receives the bytes that one request sends to an upload. until: computes the expiry from the time of the last
    bytes. counted: bytes of this request that are durable.
    """

    def __init__(
        self,
        rows: ResumableStore,
        evidence: Evidence,
        upload: Resumable,
        checksum: Checksum | None,
        until: Callable[[datetime], datetime],
    ) -> None:
        self._rows = rows
        self._evidence = evidence
        self._upload = upload
        self._checksum = checksum
        self._until = until
        self.counted = 0
        self._uncounted: list[Piece] = []
        self._end = upload.offset
        self._pending = bytearray()

    async def all_of(self, body: AsyncIterator[bytes], within_s: float) -> bytes:
        """Receive a body. Returns the last bytes of the upload if it is complete now, otherwise nothing."""
        try:
            try:
                async for chunk in _in_time(body, within_s):
                    await self._take(chunk)
            except (ClientDisconnect, UploadTimeoutError):
                if self._checksum is None:
                    await self._cut(min(len(self._pending), self._missing - 1))
                raise
            if self._checksum is not None:
                self._checksum.require()
                self._checksum = None
            if len(self._pending) < self._missing:
                await self._cut(len(self._pending))
            await self._count()
        except BaseException:
            await asyncio.shield(self._discard())
            raise
        return bytes(self._pending)

    @property
    def _missing(self) -> int:
        """Bytes of the upload that are in no piece yet."""
        return self._upload.length - self._end

    async def _take(self, chunk: bytes) -> None:
        if len(self._pending) + len(chunk) > self._missing:
            raise MediaTooLargeError(
                "The body is longer than what is left of the upload. Check Upload-Length and Upload-Offset."
            )
        if self._checksum is not None:
            self._checksum.update(chunk)
        self._pending += chunk
        while len(self._pending) > _PIECE:
            await self._cut(_PIECE)

    async def _cut(self, size: int) -> None:
        if size > 0:
            key = await self._evidence.store_piece(self._upload.case_id, bytes(self._pending[:size]))
            self._uncounted.append(Piece(self._end, self._end + size, key))
            self._end += size
            del self._pending[:size]
        if self._checksum is None:
            await self._count()

    async def _count(self) -> None:
        if self._uncounted:
            most, now = self._upload.length // _PIECE + _SMALL_PIECES, datetime.now(UTC)
            await self._rows.append(self._upload.id, self._uncounted, most, now, self._until(now))
            self.counted = self._end - self._upload.offset
            self._uncounted = []

    async def _discard(self) -> None:
        # If the store does not answer, the files stay. The next start removes those that no row points to.
        with contextlib.suppress(ServiceError):
            if self._uncounted:
                known = set(await self._rows.pieces(self._upload.id))
                for piece in self._uncounted:
                    if piece.key not in known:
                        await self._evidence.remove(piece.key)


async def _in_time(body: AsyncIterator[bytes], within_s: float) -> AsyncIterator[bytes]:
    """The chunks of a body as they arrive. Raises UploadTimeoutError after a long silence, or `within_s` in all."""
    coming, loop = aiter(body), asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + _SILENCE_S)):
                chunk = await anext(coming)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise UploadTimeoutError(
                "The body did not arrive in time. What arrived is stored: ask for the offset with HEAD and continue."
            ) from None
        yield chunk
