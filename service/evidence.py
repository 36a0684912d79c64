"""The evidence: media as received, in a local folder, durable before it is acknowledged.

    incoming/<random>.part                 while it streams in; leftovers are removed at start
    cases/<case id>/<step>-<attempt>-<random>.media   whole files only: written, synced, renamed, folder synced

A power cut leaves either the whole file or none. Names are made here from checked ids, never from what a client sent.
Encryption at rest and object storage are not here yet.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graphs.records import Step
from models.errors import EmptyMediaError, MediaTooLargeError
from service.errors import EvidenceUnavailableError
from service.identifiers import is_case_id

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Incoming:
    """A media that has arrived whole but is not kept yet. path: its temporary file; sha256: hexadecimal."""

    path: Path
    size: int
    sha256: str


class Evidence:
    """The evidence folder `root`. min_free: bytes of disk that uploads must leave."""

    def __init__(self, root: Path, min_free: int = 0) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._min_free = min_free

    def start(self, known: set[str]) -> list[str]:
        """Make the folders; remove what an earlier run left unfinished: parts, and media that no upload points to.

        Gives the keys of media that were removed. Raises EvidenceUnavailableError.
        """
        with _unavailable_is_said():
            self._incoming.mkdir(parents=True, exist_ok=True)
            for part in self._incoming.iterdir():
                part.unlink()
            media = (self.root / "cases").glob("*/*.media")
            orphans = [path for path in media if self._key(path) not in known]
            for path in orphans:
                path.unlink()
        return [self._key(path) for path in orphans]

    async def receive(self, body: AsyncIterator[bytes], limit: int) -> Incoming:
        """Write a body to a temporary file as it arrives.

        Raises MediaTooLargeError as soon as more than `limit` bytes came, EmptyMediaError for none, and
        EvidenceUnavailableError; the file is removed then, and also when the sender goes away.
        """
        path = self._incoming / f"{secrets.token_hex(16)}.part"
        digest, size = hashlib.sha256(), 0
        try:
            with _unavailable_is_said():
                if shutil.disk_usage(self._incoming).free < self._min_free:
                    raise EvidenceUnavailableError("the evidence store is full")
                with path.open("xb") as file:
                    pending = bytearray()
                    async for chunk in body:
                        size += len(chunk)
                        if size > limit:
                            raise MediaTooLargeError(f"more than {limit} bytes")
                        digest.update(chunk)
                        pending += chunk
                        if len(pending) >= _CHUNK:
                            await asyncio.to_thread(file.write, bytes(pending))
                            pending.clear()
                    file.write(pending)
            if size == 0:
                raise EmptyMediaError("the body is empty")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Incoming(path, size, digest.hexdigest())

    async def sync(self, incoming: Incoming) -> None:
        """Bring the bytes to the disk. Raises EvidenceUnavailableError."""
        await asyncio.to_thread(_sync, incoming.path)

    async def keep(self, incoming: Incoming, case_id: str, step: Step, attempt: int) -> str:
        """Give a synced media its place; gives its key. Durable when this returns. Raises EvidenceUnavailableError."""
        if not is_case_id(case_id):
            raise ValueError("not the id of a case")
        path = self.root / "cases" / case_id / f"{step}-{attempt}-{secrets.token_hex(8)}.media"
        await asyncio.to_thread(_place, incoming.path, path, self.root)
        return self._key(path)

    def discard(self, incoming: Incoming) -> None:
        """Remove a media that is not wanted; nothing happens when it was kept."""
        incoming.path.unlink(missing_ok=True)

    async def remove(self, key: str) -> None:
        """Remove a kept media whose upload was not recorded."""
        await asyncio.to_thread((self.root / key).unlink, missing_ok=True)

    async def read(self, key: str) -> bytes:
        """The bytes of a kept media. Raises EvidenceUnavailableError."""
        with _unavailable_is_said():
            return await asyncio.to_thread((self.root / key).read_bytes)

    def check(self) -> None:
        """Raises EvidenceUnavailableError when an upload could not be written now."""
        with _unavailable_is_said():
            if shutil.disk_usage(self._incoming).free < self._min_free:
                raise EvidenceUnavailableError("the evidence store is full")
            if not os.access(self._incoming, os.W_OK):
                raise EvidenceUnavailableError("the evidence store cannot be written")

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


@contextmanager
def _unavailable_is_said() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EvidenceUnavailableError(f"the evidence store {'is full' if full else 'cannot be used'}") from error


def _sync(path: Path) -> None:
    with _unavailable_is_said():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _place(source: Path, target: Path, root: Path) -> None:
    with _unavailable_is_said():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    # The new name, and the folders that may be new, are entries of their parents.
    for folder in (target.parent, target.parent.parent, root):
        _sync(folder)
