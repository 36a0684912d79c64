"""The encryption format of personal data ("sealing"). It has no keys of its own and does no I/O.

    entry   (a media or a file of the findings)  magic ‖ salt 32 ‖ prefix 7 ‖ record ‖ record ‖ …
    record  AES-256-GCM of 64 KiB of the content, the last one of the rest; nonce = prefix ‖ count 4 ‖ last 1
    value   (a column of the case store)        version 1 ‖ nonce 12 ‖ AES-256-GCM of its JSON

Entries use the streaming format that Tink calls AES-GCM-HKDF, after STREAM by Hoang, Reyhanitabar, Rogaway and Vizár
(CRYPTO 2015). Records that were changed, removed, reordered or truncated are refused, and a reader needs memory for
only one at a time. Each entry has its own key, derived with HKDF (RFC 5869) from the data key of its case, a random
salt and the place of the entry. So no nonce repeats under a key, and an entry opens only at its own place. NIST SP
800-38D allows 2^32 random nonces per key; a case has some hundred values.

Not detected: an older entry or value that was put back at the same place. The data keys are in
`service.crypto.keyring`.
"""

from __future__ import annotations

import io
import itertools
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import SealBrokenError

CHUNK = 64 * 1024
"""Bytes of content per record. Small enough that freed memory is reused: for records of 1 MiB the kernel provided new
pages each time, which cost more than the encryption (for 2 MB: 5 to 8 ms instead of 1 ms).
"""
KEY_BYTES = 32
_MAGIC = b"VDSE\x01"
_SALT, _PREFIX, _TAG, _NONCE = 32, 7, 16, 12
_HEADER = len(_MAGIC) + _SALT + _PREFIX
_RECORD = CHUNK + _TAG
_VALUE = b"\x01"


def _derive(data_key: bytes, salt: bytes | None, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose).derive(data_key)


def _entry_key(data_key: bytes, salt: bytes, place: str) -> bytes:
    return _derive(data_key, salt, _MAGIC + place.encode())


def _nonce(prefix: bytes, count: int, *, last: bool) -> bytes:
    # More than 2^32 records (256 TiB) do not fit and raise OverflowError.
    return prefix + count.to_bytes(4, "big") + last.to_bytes(1, "big")


class _Cutter:
    """Cuts chunks of any size into parts of one size, and holds back the last part.

    Each part is joined only once: a growing buffer that is cut at its front took six times as long for 2 MB.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pending: list[memoryview] = []
        self._length = 0

    def cut(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the parts that are complete and are not the last."""
        view = memoryview(chunk)
        while self._length + len(view) > self._size:
            missing = self._size - self._length
            yield self.rest(view[:missing])
            view = view[missing:]
        self._pending.append(view)
        self._length += len(view)

    def rest(self, more: memoryview | bytes = b"") -> bytes:
        """Return the bytes held back, followed by `more`, and start again."""
        part = b"".join((*self._pending, more))
        self._pending, self._length = [], 0
        return part


class Sealer:
    """Seals one entry while its content arrives. data_key: of its case. place: its key in the evidence.

    The attribute `key` is the key of this entry, which opens no other.
    """

    def __init__(self, data_key: bytes, place: str) -> None:
        salt, self._prefix = secrets.token_bytes(_SALT), secrets.token_bytes(_PREFIX)
        self.key = _entry_key(data_key, salt, place)
        self._cipher = AESGCM(self.key)
        self._header = _MAGIC + salt + self._prefix
        self._cutter = _Cutter(CHUNK)
        self._count = 0

    def update(self, content: bytes) -> Iterator[bytes]:
        """Yield what can be written now. At most one record is held back, because it may be the last.

        Exhaust the iterator.
        """
        if self._header:
            yield self._header
            self._header = b""
        for part in self._cutter.cut(content):
            yield self._record(part, last=False)

    def finish(self) -> Iterator[bytes]:
        """Yield the rest. Do not call `update` afterwards."""
        yield self._header + self._record(self._cutter.rest(), last=True)

    def _record(self, content: bytes, *, last: bool) -> bytes:
        nonce = _nonce(self._prefix, self._count, last=last)
        self._count += 1
        return self._cipher.encrypt(nonce, content, None)


def seal_entry(content: bytes, data_key: bytes, place: str) -> bytes:
    """Seal an entry whose whole content is there."""
    sealer = Sealer(data_key, place)
    return b"".join((*sealer.update(content), *sealer.finish()))


def open_entry(chunks: Iterable[bytes], data_key: bytes, place: str) -> Iterator[bytes]:
    """Open an entry that arrives in chunks of any size. Yields its content record by record, each authenticated.

    The content is known to be complete only when the iterator ends. Raises SealBrokenError.
    """
    return _open_records(chunks, lambda salt: _entry_key(data_key, salt, place))


def open_entry_with(chunks: Iterable[bytes], key: bytes) -> Iterator[bytes]:
    """As `open_entry`, with the key of this entry (`Sealer.key`)."""
    return _open_records(chunks, lambda _: key)


def join(parts: Iterable[bytes]) -> bytes:
    """All parts as one. Uses a growing buffer: a list of the parts would be in memory beside the result."""
    file = io.BytesIO()
    for part in parts:
        file.write(part)
    return file.getvalue()


def _open_records(chunks: Iterable[bytes], key_of: Callable[[bytes], bytes]) -> Iterator[bytes]:
    remaining, head = iter(chunks), b""
    while len(head) < _HEADER:
        chunk = next(remaining, None)
        if chunk is None:
            raise SealBrokenError("the sealed entry was cut off")
        head += chunk
    if not head.startswith(_MAGIC):
        raise SealBrokenError("this is no sealed entry")
    cipher, prefix = AESGCM(key_of(head[len(_MAGIC) : _HEADER - _PREFIX])), head[_HEADER - _PREFIX : _HEADER]
    cutter, count = _Cutter(_RECORD), 0
    for chunk in itertools.chain((head[_HEADER:],), remaining):
        for record in cutter.cut(chunk):
            yield _decrypt(cipher, _nonce(prefix, count, last=False), record)
            count += 1
    yield _decrypt(cipher, _nonce(prefix, count, last=True), cutter.rest())


def _decrypt(cipher: AESGCM, nonce: bytes, content: bytes, place: bytes | None = None) -> bytes:
    try:
        return cipher.decrypt(nonce, content, place)
    except InvalidTag as error:
        raise SealBrokenError("sealed data was changed, cut off, or put in the place of another") from error


class Values:
    """Seals and opens the values of one case in the case store. data_key: of that case.

    place: names table, column and row. A value opens only at its own place.
    """

    def __init__(self, data_key: bytes) -> None:
        self._cipher = AESGCM(_derive(data_key, None, b"veridask values 1"))

    def seal(self, value: Any, place: str) -> bytes:
        """Seal a value of JSON types."""
        nonce = secrets.token_bytes(_NONCE)
        content = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        return _VALUE + nonce + self._cipher.encrypt(nonce, content, place.encode())

    def open(self, value: bytes, place: str) -> Any:
        """Open a sealed value. Raises SealBrokenError."""
        if value[:1] != _VALUE or len(value) < 1 + _NONCE + _TAG:
            raise SealBrokenError("this is no sealed value")
        return json.loads(_decrypt(self._cipher, value[1 : 1 + _NONCE], value[1 + _NONCE :], place.encode()))
