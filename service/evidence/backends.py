"""Where the evidence is kept for good: a folder, or object storage. Whole entries or none, durable when a call returns.

    cases/<case id>/<step>-<attempt>-<random>.media      media as received
    cases/<case id>/piece-<random>.media                 a part of a media that has not come whole yet
    cases/<case id>/findings.zarr/<step>/…               one Zarr group per case (see `findings`)

Keys are made by `service.evidence.evidence` and `service.evidence.findings` from checked ids. All methods block: call
them from a thread. All raise EvidenceUnavailableError when the place cannot be used. What comes here was sealed by
`service.evidence.evidence`, each entry for its own key.
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
_REMOVALS = 100
"""Tries to remove a folder that another removes, or writes to, at the same moment."""


class EvidenceBackend(Protocol):
    """What both places can do. shared: processes on other hosts may write there, whose work is not seen here."""

    shared: bool

    def keep(self, source: Path, key: str) -> None:
        """Move a media there from a local file that was synced."""
        ...

    def pieces(self, key: str) -> Iterator[bytes]:
        """The bytes of a kept media, some at a time."""
        ...

    def remove(self, key: str) -> None:
        """Remove a media; harmless when it is not there."""
        ...

    def remove_case(self, case_id: str) -> None:
        """Remove all that there is of a case; harmless when there is nothing."""
        ...

    def media(self) -> Iterator[tuple[str, float]]:
        """Keys of all media, with the time each was kept, in seconds since 1970."""
        ...

    def write_group(self, root: str, name: str, files: Mapping[str, bytes], head: bytes) -> None:
        """Put the Zarr group `name` into the group `root`, in the place of one of that name. files: by path inside it;
        head: the metadata of the group `root`.

        A reader finds the whole group, or none.
        """
        ...

    def files(self, root: str) -> Iterator[tuple[str, bytes]]:
        """All files of the Zarr group `root`, by path inside it; none when it was not written yet."""
        ...

    def require_usable(self) -> None:
        """Raise EvidenceUnavailableError when nothing could be written now."""
        ...


class FolderBackend:
    """Evidence in a local folder, or one that several hosts share. Sources must lie on the same file system."""

    shared = False  # others are seen by their locks

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, source: Path, key: str) -> None:
        """See EvidenceBackend. Renamed, then the new names are synced: entries of their folders."""
        target = self.root / key
        with storage_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            for folder in (target.parent, target.parent.parent, self.root):
                sync(folder)

    def pieces(self, key: str) -> Iterator[bytes]:
        """See EvidenceBackend."""
        with storage_errors(), (self.root / key).open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece

    def remove(self, key: str) -> None:
        """See EvidenceBackend."""
        with storage_errors():
            (self.root / key).unlink(missing_ok=True)

    def remove_case(self, case_id: str) -> None:
        """See EvidenceBackend."""
        folder = self.root / "cases" / case_id
        with storage_errors():
            for _ in range(_REMOVALS):
                try:
                    shutil.rmtree(folder)
                except FileNotFoundError:
                    pass  # not there; or another, a sweep or a request, removes it too and was faster with one file
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                if not folder.exists():
                    if folder.parent.exists():  # it does once there was a case
                        sync(folder.parent)
                    return
            raise EvidenceUnavailableError("Evidence of the case is still being written. Try again later.")

    def media(self) -> Iterator[tuple[str, float]]:
        """See EvidenceBackend."""
        with storage_errors():
            for path in (self.root / "cases").glob(f"*/*{MEDIA}"):
                yield path.relative_to(self.root).as_posix(), path.stat().st_mtime

    def write_group(self, root: str, name: str, files: Mapping[str, bytes], head: bytes) -> None:
        """See EvidenceBackend. Written aside and renamed."""
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

    endpoint: URL of an S3 service other than Amazon's; empty for none. Credentials come from the variables that this
    storage's own tools read (AWS_…, GOOGLE_…, AZURE_…) or from the machine's role. Raises EvidenceUnavailableError.
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
                # The client of the API is told to come again; the default would hold its request for three minutes.
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_TIMEOUT_S)},
            )

    def keep(self, source: Path, key: str) -> None:
        """See EvidenceBackend. An object is there whole or not at all."""
        with storage_errors():
            obstore.put(self._objects, key, source)
            source.unlink(missing_ok=True)

    def pieces(self, key: str) -> Iterator[bytes]:
        """See EvidenceBackend."""
        with storage_errors():
            for piece in obstore.get(self._objects, key).stream(min_chunk_size=CHUNK):
                yield bytes(piece)

    def remove(self, key: str) -> None:
        """See EvidenceBackend."""
        with storage_errors():
            self._remove([key])

    def remove_case(self, case_id: str) -> None:
        """See EvidenceBackend. What a bucket keeps of earlier versions is its own matter."""
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
        """See EvidenceBackend. The group's own metadata goes first and comes last: without it there is no group."""
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
        """See EvidenceBackend. Asks for a listing: whether an object could be written is only known by writing one."""
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
    """Turn what the system or the object storage says into EvidenceUnavailableError, without names of files."""
    try:
        yield
    except BaseError as error:
        raise EvidenceUnavailableError(
            f"The object storage cannot be used ({type(error).__name__}). Try again later."
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EvidenceUnavailableError(f"the evidence store {'is full' if full else 'cannot be used'}") from error


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk. Raises EvidenceUnavailableError."""
    with storage_errors():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
