"""The evidence: media as received, durable before an upload is acknowledged, and the findings of each case.

    incoming/<process>.<random>.part       an upload in progress; those of dead processes are removed at the next start
    processes/<process>.lock               locked while that API process is alive: several may share the folder

A media is received into a local folder, probed there, and then moved to a backend (`service.evidence.backends`: a
folder or object storage). A power failure leaves either the whole media or nothing. Keys are built here from validated
ids, never from input of a client.

Everything is sealed with the data key of its case before it reaches a disk (`service.crypto.sealing`), bound to its
final place. The data keys are kept elsewhere (`DataKeys`), so a copy of the evidence alone cannot be read.

This does not check what a media contains (`service.evidence.prober`).
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
from service.crypto.sealing import Sealer, join, open_entry, seal_entry
from service.errors import EvidenceUnavailableError, ForgottenError
from service.evidence.backends import MEDIA, EvidenceBackend, FolderBackend, storage_errors, sync
from service.evidence.findings import HEAD, ROOT_GROUP, decode_group, encode_group, group_root
from service.lifecycle.identifiers import is_case_id

if TYPE_CHECKING:
    import numpy.typing as npt
    import zarr

_CHUNK = 1024 * 1024
_ORPHAN_S = 3600.0
"""Age after which a media without an upload is an orphan, while other processes are alive: longer than any request."""


@dataclass(frozen=True)
class Incoming:
    """A media that was received completely but is not in the backend yet.

    path: its temporary file, sealed. key: its future key in the evidence. media_key: the encryption key of this media
    alone. size (bytes) and sha256 (hexadecimal) are of the content as received.
    """

    path: Path
    key: str
    media_key: bytes = field(repr=False)
    size: int
    sha256: str


class DataKeys(Protocol):
    """Access to the data keys of cases. `service.store.cases` implements it."""

    async def data_key(self, case_id: str) -> bytes:
        """The data key of a case. Raises UnknownCaseError, ForgottenError, KeyMissingError, StoreUnavailableError."""
        ...


class Evidence:
    """Media and findings of all cases.

    root: local folder that media are received into; also the place of the evidence if no `backend` is given. keys: the
    data keys; methods that need one also raise the errors of `DataKeys.data_key`. min_free: bytes of disk space that
    uploads must leave free.
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
        """Create the folders, and remove what dead processes left: partial files, and media that no upload refers to.

        known: the evidence keys that the store has. Returns the keys of the removed media. Raises
        EvidenceUnavailableError.
        """
        with storage_errors():
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._processes.mkdir(exist_ok=True)
            self._lock = _try_lock(self._processes / f"{self._me}.lock")
            alive = {path.stem for path in self._processes.iterdir() if not self._remove_if_dead(path)}
            for part in self._incoming.iterdir():
                if part.name.split(".")[0] not in alive:
                    part.unlink(missing_ok=True)
        newest = time.time() - (_ORPHAN_S if alive - {self._me} or self.backend.shared else 0)
        orphans = [key for key, stored_at in self.backend.media() if key not in known and stored_at <= newest]
        for key in orphans:
            self.backend.remove(key)
        return orphans

    def close(self) -> None:
        """Remove the lock file of this process."""
        if self._lock is not None:
            (self._processes / f"{self._me}.lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _remove_if_dead(self, lock: Path) -> bool:
        """Whether the process of a lock file is dead. Removes the file if so."""
        if lock.stem == self._me:
            return False
        descriptor = _try_lock(lock)
        if descriptor is None:
            return False
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        return True

    async def receive(self, body: AsyncIterator[bytes], limit: int, case_id: str, step: Step, attempt: int) -> Incoming:
        """Write a body to a temporary file as it arrives, sealed for its future place.

        Raises MediaTooLargeError as soon as more than `limit` bytes arrived, EmptyMediaError for an empty body, and
        EvidenceUnavailableError. The file is removed on errors, and when the client disconnects.
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

    async def store_piece(self, case_id: str, content: bytes) -> str:
        """Store a piece of an unfinished upload, sealed as an entry of its own. Returns its key.

        Durable when this returns. Like media, a piece that no row refers to is removed at the next start. Raises
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
                self.backend.store(path, key)
            finally:
                path.unlink(missing_ok=True)

        await asyncio.to_thread(write)
        return key

    async def sync(self, incoming: Incoming) -> None:
        """Flush a received media to disk. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(sync, incoming.path)

    async def store(self, incoming: Incoming) -> str:
        """Move a synced media to the backend.

        Returns its key. Durable when this returns. Raises EvidenceUnavailableError.
        """
        await asyncio.to_thread(self.backend.store, incoming.path, incoming.key)
        return incoming.key

    def discard(self, incoming: Incoming) -> None:
        """Remove the temporary file of a media. Does nothing if it was moved to the backend."""
        incoming.path.unlink(missing_ok=True)

    async def remove(self, key: str) -> None:
        """Remove a stored media whose upload was not recorded. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(self.backend.remove, key)

    async def read(self, key: str) -> bytes:
        """The content of a stored media. Raises EvidenceUnavailableError, SealBrokenError."""
        file = BytesIO()
        await self.copy(key, file)
        return file.getvalue()

    async def copy(self, key: str, target: BinaryIO) -> None:
        """Write the content of a stored media into a file, record by record. It is complete only when this returns.

        Raises EvidenceUnavailableError, SealBrokenError.
        """
        data_key = await self._keys.data_key(key.split("/")[1])

        def write() -> None:
            for part in open_entry(self.backend.chunks(key), data_key, key):
                target.write(part)

        await asyncio.to_thread(write)

    async def store_findings(
        self,
        case_id: str,
        step: Step,
        attempt: int,
        arrays: Mapping[str, npt.NDArray[Any]],
        attributes: Mapping[str, Any],
    ) -> None:
        """Store the findings of one step as the group `<step>` in the Zarr group of the case. A later attempt replaces
        it. Raises EvidenceUnavailableError, and ForgottenError for a redacted case; then nothing is stored.
        """
        root = group_root(case_id)
        data_key = await self._keys.data_key(case_id)

        def write() -> None:
            files = encode_group(arrays, {**attributes, "attempt": attempt})
            folder = f"{root}/{step}"
            sealed_files = {path: seal_entry(content, data_key, f"{folder}/{path}") for path, content in files.items()}
            self.backend.write_group(root, step, sealed_files, seal_entry(ROOT_GROUP, data_key, f"{root}/{HEAD}"))

        await asyncio.to_thread(write)
        try:
            await self._keys.data_key(case_id)
        except ForgottenError:  # redacted meanwhile: nobody can open these files, and nobody else would remove them
            await self.erase(case_id)
            raise

    async def group(self, case_id: str) -> zarr.Group:
        """The Zarr group of a case, decrypted into memory, read-only.

        Raises FileNotFoundError if it was not written yet; EvidenceUnavailableError, SealBrokenError.
        """
        root = group_root(case_id)
        data_key = await self._keys.data_key(case_id)

        def read() -> zarr.Group:
            files = self.backend.files(root)
            return decode_group(
                {path: join(open_entry([content], data_key, f"{root}/{path}")) for path, content in files}
            )

        return await asyncio.to_thread(read)

    async def erase(self, case_id: str) -> None:
        """Remove the media and the findings of a case. Can be repeated. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(self.backend.remove_case, case_id)

    async def require_usable(self) -> None:
        """Raise EvidenceUnavailableError if an upload cannot be written now."""

        def check() -> None:
            with storage_errors():
                self._require_space()
                if not os.access(self._incoming, os.W_OK):
                    raise EvidenceUnavailableError("The evidence store cannot be written. Try again later.")
            self.backend.require_usable()

        await asyncio.to_thread(check)

    def _require_space(self) -> None:
        if shutil.disk_usage(self._incoming).free < self._min_free:
            raise EvidenceUnavailableError("The evidence store is full. Try again later.")


def _write(file: BinaryIO, sealer: Sealer, content: bytes, *, last: bool = False) -> None:
    file.writelines(sealer.update(content))
    if last:
        file.writelines(sealer.finish())


def _try_lock(path: Path) -> int | None:
    """Lock a file and return the descriptor that holds the lock; None if a living process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
