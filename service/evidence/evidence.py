"""The evidence: media as received, durable before it is acknowledged, and the findings of each case.

    incoming/<process>.<random>.part       while it streams in; what a dead process left is removed at the next start
    processes/<process>.lock               locked while that API process lives: several may share the folder

A media arrives in a local folder, is looked at there, and then gets its place in the evidence store
(`service.evidence.backends`: a folder or object storage). A power cut leaves either the whole media or none. Names are
made here from checked ids, never from what a client sent.

Everything is sealed with the data key of its case (`service.crypto.sealing`) before it touches a disk, at the place
where it will lie. The keys come from elsewhere (`DataKeys`), so that who copies the evidence alone has nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from graphs.records import Step
from models.errors import EmptyMediaError, MediaTooLargeError
from service.crypto.sealing import Sealer, opened, sealed, whole
from service.errors import EvidenceUnavailableError, ForgottenError
from service.evidence.backends import MEDIA, EvidenceBackend, FolderBackend, storage_errors, sync
from service.evidence.findings import HEAD, ROOT_GROUP, decoded, encoded, group_root
from service.lifecycle.identifiers import is_case_id

if TYPE_CHECKING:
    import numpy.typing as npt
    import zarr

_CHUNK = 1024 * 1024
_ORPHAN_S = 3600.0
"""Age from which a media without an upload is nobody's, while other processes are at work: longer than a request."""


@dataclass(frozen=True)
class Incoming:
    """A media that has arrived whole but is not kept yet.

    path: its temporary file, sealed; key: its place in the evidence; opens: the key that opens this media alone. size
    and sha256 (hexadecimal) are of what was received.
    """

    path: Path
    key: str
    opens: bytes = field(repr=False)
    size: int
    sha256: str


class DataKeys(Protocol):
    """Where the data keys of cases are. `service.store.cases` holds them."""

    async def data_key(self, case_id: str) -> bytes:
        """The data key of a case. Raises UnknownCaseError, ForgottenError, KeyMissingError, StoreUnavailableError."""
        ...


class Evidence:
    """The evidence. root: local folder where media arrive, and where they stay when `store` is not given.

    keys: the data keys that seal them; what asks for one raises what that raises. min_free: bytes of disk that uploads
    must leave. store: another place to keep them.
    """

    def __init__(self, root: Path, keys: DataKeys, min_free: int = 0, backend: EvidenceBackend | None = None) -> None:
        self.backend = backend or FolderBackend(root)
        self._keys = keys
        self._incoming = root / "incoming"
        self._processes = root / "processes"
        self._min_free = min_free
        self._me = secrets.token_hex(8)
        self._lock: int | None = None

    def start(self, known: set[str]) -> list[str]:
        """Make the folders; remove what processes that are gone left unfinished: parts, and media that no upload points
        to.

        Gives the keys of media that were removed. Raises EvidenceUnavailableError.
        """
        with storage_errors():
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._processes.mkdir(exist_ok=True)
            self._lock = _locked(self._processes / f"{self._me}.lock")
            alive = {path.stem for path in self._processes.iterdir() if not self._is_gone(path)}
            for part in self._incoming.iterdir():
                if part.name.split(".")[0] not in alive:
                    part.unlink(missing_ok=True)
        youngest = time.time() - (_ORPHAN_S if alive - {self._me} or self.backend.shared else 0)
        orphans = [key for key, kept_at in self.backend.media() if key not in known and kept_at <= youngest]
        for key in orphans:
            self.backend.remove(key)
        return orphans

    def close(self) -> None:
        """Say that this process is gone."""
        if self._lock is not None:
            (self._processes / f"{self._me}.lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _is_gone(self, lock: Path) -> bool:
        """Whether the process of that lock file has ended; the file is removed then."""
        if lock.stem == self._me:
            return False
        descriptor = _locked(lock)
        if descriptor is None:
            return False
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        return True

    async def receive(self, body: AsyncIterator[bytes], limit: int, case_id: str, step: Step, attempt: int) -> Incoming:
        """Write a body to a temporary file as it arrives, sealed for the place that it will have.

        Raises MediaTooLargeError as soon as more than `limit` bytes came, EmptyMediaError for none, and
        EvidenceUnavailableError; the file is removed then, and also when the sender goes away.
        """
        if not is_case_id(case_id):
            raise ValueError("not the id of a case")
        place = f"cases/{case_id}/{step}-{attempt}-{secrets.token_hex(8)}{MEDIA}"
        sealer = Sealer(await self._keys.data_key(case_id), place)
        path = self._incoming / f"{self._me}.{secrets.token_hex(16)}.part"
        digest, size = hashlib.sha256(), 0
        try:
            with storage_errors():
                self._require_space()
                with path.open("xb") as file:
                    pending = bytearray()
                    async for chunk in body:
                        size += len(chunk)
                        if size > limit:
                            raise MediaTooLargeError(f"The media is larger than {limit} bytes. Record a shorter one.")
                        digest.update(chunk)
                        pending += chunk
                        if len(pending) >= _CHUNK:
                            await asyncio.to_thread(_write, file, sealer, bytes(pending))
                            pending.clear()
                    await asyncio.to_thread(_write, file, sealer, bytes(pending), last=True)
            if size == 0:
                raise EmptyMediaError("The body is empty. Send the bytes of the media.")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Incoming(path, place, sealer.key, size, digest.hexdigest())

    async def keep_piece(self, case_id: str, content: bytes) -> str:
        """Keep a piece of a media that has not come whole yet, sealed as an entry of its own; gives its key.

        Durable when this returns. A piece that no row points to is removed at a start, like media. Raises
        EvidenceUnavailableError.
        """
        if not is_case_id(case_id):
            raise ValueError("not the id of a case")
        key = f"cases/{case_id}/piece-{secrets.token_hex(8)}{MEDIA}"
        data_key = await self._keys.data_key(case_id)
        path = self._incoming / f"{self._me}.{secrets.token_hex(16)}.part"

        def write() -> None:
            try:
                with storage_errors():
                    self._require_space()
                    with path.open("xb") as file:
                        _write(file, Sealer(data_key, key), content, last=True)
                sync(path)
                self.backend.keep(path, key)
            finally:
                path.unlink(missing_ok=True)

        await asyncio.to_thread(write)
        return key

    async def sync(self, incoming: Incoming) -> None:
        """Bring the bytes to the disk. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(sync, incoming.path)

    async def keep(self, incoming: Incoming) -> str:
        """Give a synced media its place; gives its key. Durable when this returns. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(self.backend.keep, incoming.path, incoming.key)
        return incoming.key

    def discard(self, incoming: Incoming) -> None:
        """Remove a media that is not wanted; nothing happens when it was kept."""
        incoming.path.unlink(missing_ok=True)

    async def remove(self, key: str) -> None:
        """Remove a kept media whose upload was not recorded. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(self.backend.remove, key)

    async def read(self, key: str) -> bytes:
        """The bytes of a kept media. Raises EvidenceUnavailableError, SealBrokenError."""
        file = BytesIO()
        await self.copy(key, file)
        return file.getvalue()

    async def copy(self, key: str, target: BinaryIO) -> None:
        """Write a kept media into a file, a record at a time: it is whole once this has returned.

        Raises EvidenceUnavailableError, SealBrokenError.
        """
        data_key = await self._keys.data_key(key.split("/")[1])

        def write() -> None:
            for part in opened(self.backend.pieces(key), data_key, key):
                target.write(part)

        await asyncio.to_thread(write)

    async def keep_findings(
        self,
        case_id: str,
        step: Step,
        attempt: int,
        arrays: Mapping[str, npt.NDArray[Any]],
        attributes: Mapping[str, Any],
    ) -> None:
        """Keep the findings of one step as the group `<step>` of the case's Zarr group; a later attempt takes its
        place. Raises EvidenceUnavailableError, and ForgottenError for a case that was redacted: nothing is kept then.
        """
        root = group_root(case_id)
        data_key = await self._keys.data_key(case_id)

        def write() -> None:
            files = encoded(arrays, {**attributes, "attempt": attempt})
            closed = {path: sealed(content, data_key, f"{root}/{step}/{path}") for path, content in files.items()}
            self.backend.write_group(root, step, closed, sealed(ROOT_GROUP, data_key, f"{root}/{HEAD}"))

        await asyncio.to_thread(write)
        try:
            await self._keys.data_key(case_id)
        except ForgottenError:  # while this was written; nobody can open it, and nobody else would remove it
            await self.erase(case_id)
            raise

    async def group(self, case_id: str) -> zarr.Group:
        """The Zarr group of a case, opened into memory, to read.

        Raises FileNotFoundError when it was not written yet; EvidenceUnavailableError, SealBrokenError.
        """
        root = group_root(case_id)
        data_key = await self._keys.data_key(case_id)

        def read() -> zarr.Group:
            files = self.backend.files(root)
            return decoded({path: whole(opened([content], data_key, f"{root}/{path}")) for path, content in files})

        return await asyncio.to_thread(read)

    async def erase(self, case_id: str) -> None:
        """Remove the media and the findings of a case; harmless when repeated. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(self.backend.remove_case, case_id)

    async def require_usable(self) -> None:
        """Raises EvidenceUnavailableError when an upload could not be written now."""

        def look() -> None:
            with storage_errors():
                self._require_space()
                if not os.access(self._incoming, os.W_OK):
                    raise EvidenceUnavailableError("The evidence store cannot be written. Try again later.")
            self.backend.require_usable()

        await asyncio.to_thread(look)

    def _require_space(self) -> None:
        if shutil.disk_usage(self._incoming).free < self._min_free:
            raise EvidenceUnavailableError("The evidence store is full. Try again later.")


def _write(file: BinaryIO, sealer: Sealer, content: bytes, *, last: bool = False) -> None:
    file.writelines(sealer.update(content))
    if last:
        file.writelines(sealer.finish())


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock on a file; None when a living process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
