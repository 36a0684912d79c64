"""Backends that store the evidence: a folder, or object storage.

An entry is stored whole or not at all, and is durable when a call returns.

    cases/<case id>/<step>-<attempt>-<random>.media      media as received
    cases/<case id>/piece-<random>.media                 a piece of an unfinished resumable upload
    cases/<case id>/findings.zarr/<step>/…               one Zarr group per case (see `findings`)

All methods block, so call them from a thread. All raise EvidenceUnavailableError if the storage cannot be used.

Backends neither build keys nor encrypt: `service.evidence.evidence` and `service.evidence.findings` build keys from
validated ids, and `service.evidence.evidence` seals each entry for its own key.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from service.crypto.sealing import CHUNK
from service.errors import EvidenceUnavailableError
from service.evidence.findings import HEAD

MEDIA = ".media"
_TIMEOUT_S, _RETRIES = 10, 2
_REMOVAL_TRIES = 100
"""Tries to remove a folder while another process removes it or writes to it."""


class EvidenceBackend(Protocol):
    """The interface of both backends.

    shared: processes on other hosts may write there too, and cannot be detected here.
    """

    shared: bool

    def store(self, source: Path, key: str) -> None:
        """Move a media into the storage from a local file that was synced."""
        ...

    def chunks(self, key: str) -> Iterator[bytes]:
        """The bytes of a stored media, in chunks."""
        ...

    def remove(self, key: str) -> None:
        """Remove a media. Does nothing if it does not exist."""
        ...

    def remove_case(self, case_id: str) -> None:
        """Remove everything of a case. Does nothing if there is nothing."""
        ...

    def media(self) -> Iterator[tuple[str, float]]:
        """The keys of all media, each with the time it was stored, in seconds since 1970."""
        ...

    def write_group(self, root: str, name: str, files: Mapping[str, bytes], head: bytes) -> None:
        """Write the Zarr group `name` into the group `root`, replacing one with the same name.

        files: contents by path inside the group. head: the metadata of the group `root`. A reader finds the whole group
        or none.
        """
        ...

    def files(self, root: str) -> Iterator[tuple[str, bytes]]:
        """All files of the Zarr group `root`, with their paths inside it; none if it was not written yet."""
        ...

    def require_usable(self) -> None:
        """Raise EvidenceUnavailableError if nothing can be written now."""
        ...


class FolderBackend:
    """Evidence in a local folder, or one that several hosts share. Source files must be on the same file system."""

    shared = False  # other processes are detected by their lock files

    def __init__(self, root: Path) -> None:
        self.root = root

    def store(self, source: Path, key: str) -> None:
        """See EvidenceBackend. Renames the file, then syncs the folders that have the new names."""
        target = self.root / key
        with storage_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            for folder in (target.parent, target.parent.parent, self.root):
                sync(folder)

    def chunks(self, key: str) -> Iterator[bytes]:
        """See EvidenceBackend."""
        with storage_errors(), (self.root / key).open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def remove(self, key: str) -> None:
        """See EvidenceBackend."""
        with storage_errors():
            (self.root / key).unlink(missing_ok=True)

    def remove_case(self, case_id: str) -> None:
        """See EvidenceBackend."""
        folder = self.root / "cases" / case_id
        with storage_errors():
            for _ in range(_REMOVAL_TRIES):
                try:
                    shutil.rmtree(folder)
                except FileNotFoundError:
                    pass  # it does not exist, or a sweep or another request removed one of its files first
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                if not folder.exists():
                    if folder.parent.exists():  # missing only before the first case
                        sync(folder.parent)
                    return
            raise EvidenceUnavailableError("Evidence of the case is still being written. Try again later.")

    def media(self) -> Iterator[tuple[str, float]]:
        """See EvidenceBackend."""
        with storage_errors():
            for path in (self.root / "cases").glob(f"*/*{MEDIA}"):
                yield path.relative_to(self.root).as_posix(), path.stat().st_mtime

    def write_group(self, root: str, name: str, files: Mapping[str, bytes], head: bytes) -> None:
        """See EvidenceBackend. Written to a temporary folder, then renamed."""
        folder = self.root / root
        part, old = (folder.with_name(f".{name}-{suffix}.zarr.part") for suffix in ("new", "old"))
        with storage_errors():
            try:
                shutil.rmtree(part, ignore_errors=True)
                for path, content in files.items():
                    (part / path).parent.mkdir(parents=True, exist_ok=True)
                    (part / path).write_bytes(content)
                folder.mkdir(exist_ok=True)
                if not (folder / HEAD).exists():
                    (part / ".head").write_bytes(head)
                    (part / ".head").rename(folder / HEAD)
                shutil.rmtree(old, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):
                    (folder / name).rename(old)
                part.rename(folder / name)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def files(self, root: str) -> Iterator[tuple[str, bytes]]:
        """See EvidenceBackend."""
        with storage_errors():
            for path in sorted((self.root / root).rglob("*")):
                if path.is_file():
                    yield path.relative_to(self.root / root).as_posix(), path.read_bytes()

    def require_usable(self) -> None:
        """See EvidenceBackend."""
        with storage_errors():
            if not os.access(self.root, os.W_OK):
                raise EvidenceUnavailableError("The evidence store cannot be written. Try again later.")


class ObjectStorageBackend:
    """Evidence in object storage, by obstore. url: `s3://bucket/folder`, `gs://…` or `az://…`.

    endpoint: URL of an S3 service other than Amazon's, or empty. Credentials come from the environment variables of the
    storage's own tools (AWS_…, GOOGLE_…, AZURE_…) or from the role of the machine. Raises EvidenceUnavailableError.
    """

    shared = True

    def __init__(self, url: str, endpoint: str = "") -> None:
        with storage_errors():
            self._objects = from_url(
                url,
                config={"endpoint": endpoint} if endpoint else None,
                client_options={
                    "timeout": f"{_TIMEOUT_S}s",
                    "connect_timeout": "3s",
                    "allow_http": endpoint.startswith("http://"),
                },
                # API clients are told to retry instead; the default would block their request for three minutes.
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_TIMEOUT_S)},
            )

    def store(self, source: Path, key: str) -> None:
        """See EvidenceBackend. An object is stored whole or not at all."""
        with storage_errors():
            obstore.put(self._objects, key, source)
            source.unlink(missing_ok=True)

    def chunks(self, key: str) -> Iterator[bytes]:
        """See EvidenceBackend."""
        with storage_errors():
            for chunk in obstore.get(self._objects, key).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def remove(self, key: str) -> None:
        """See EvidenceBackend."""
        with storage_errors():
            self._remove([key])

    def remove_case(self, case_id: str) -> None:
        """See EvidenceBackend. Does not remove old versions in a bucket with versioning."""
        with storage_errors():
            self._remove(list(self._under(f"cases/{case_id}")))

    def media(self) -> Iterator[tuple[str, float]]:
        """See EvidenceBackend."""
        with storage_errors():
            for page in obstore.list(self._objects, "cases"):
                for found in page:
                    if found["path"].endswith(MEDIA):
                        yield found["path"], found["last_modified"].timestamp()

    def write_group(self, root: str, name: str, files: Mapping[str, bytes], head: bytes) -> None:
        """See EvidenceBackend. The metadata is removed first and written last: without it there is no group."""
        with storage_errors():
            self._remove([f"{root}/{name}/{HEAD}"])
            self._remove(list(self._under(f"{root}/{name}")))
            obstore.put(self._objects, f"{root}/{HEAD}", head)
            for path in sorted(files, key=lambda path: path == HEAD):
                obstore.put(self._objects, f"{root}/{name}/{path}", files[path])

    def files(self, root: str) -> Iterator[tuple[str, bytes]]:
        """See EvidenceBackend."""
        with storage_errors():
            for key in self._under(root):
                yield key.removeprefix(f"{root}/"), bytes(obstore.get(self._objects, key).bytes())

    def require_usable(self) -> None:
        """See EvidenceBackend. Only lists: whether an object can be written is known only by writing one."""
        with storage_errors():
            obstore.list_with_delimiter(self._objects, "readiness")

    def _remove(self, keys: list[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            if keys:
                obstore.delete(self._objects, keys)

    def _under(self, prefix: str) -> Iterator[str]:
        for page in obstore.list(self._objects, prefix):
            for found in page:
                yield found["path"]


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate errors of the system or the object storage into EvidenceUnavailableError, without file names."""
    try:
        yield
    except BaseError as error:
        raise EvidenceUnavailableError(
            f"The object storage cannot be used ({type(error).__name__}). Try again later."
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "is full" if full else "cannot be used"
        raise EvidenceUnavailableError(f"The evidence store {problem}. Try again later.") from error


def sync(path: Path) -> None:
    """Flush a file or a folder to disk (fsync). Raises EvidenceUnavailableError."""
    with storage_errors():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
