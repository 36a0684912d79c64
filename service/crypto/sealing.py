"""How what speaks of a person is sealed: the format, without keys of its own and without I/O.

    entry   (a media, a file of the findings)   magic ‖ salt 32 ‖ prefix 7 ‖ record ‖ record ‖ …
    record  AES-256-GCM of 64 KiB of the content, the last one of what is left; nonce = prefix ‖ count 4 ‖ last 1
    value   (a column of the case store)        version 1 ‖ nonce 12 ‖ AES-256-GCM of its JSON

Entries are the streaming format that Tink calls AES-GCM-HKDF, after STREAM of Hoang, Reyhanitabar, Rogaway and Vizár
(CRYPTO 2015): a record that was changed, left out, moved or cut off is refused, and a reader holds one at a time. Each
entry has a key of its own, made by HKDF (RFC 5869) from the data key of its case, a random salt and the place where the
entry lies, so no nonce comes twice under a key and an entry opens at its own place alone. NIST SP 800-38D allows 2^32
random nonces under one key: a case has some hundred values.

Not told: that an older entry or value was put back at the same place. Whose data keys these are says
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
"""Small enough that memory for a record comes from what was freed before: for records of 1 MiB the kernel gave fresh
pages each time, which cost more than the encryption (2 MB: 5 to 8 ms in place of 1).
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
    # More than 2^32 records, 256 tebibytes, do not fit and raise OverflowError.
    return prefix + count.to_bytes(4, "big") + last.to_bytes(1, "big")


class _Cutter:
    """Pieces of any size go in, parts of one size come out; the last one is held back. Joined once each: a buffer that
    grows and is cut at its front took six times as long over 2 MB.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[memoryview] = []
        self._length = 0

    def cut(self, piece: bytes) -> Iterator[bytes]:
        """The parts behind which something follows."""
        view = memoryview(piece)
        while self._length + len(view) > self._size:
            missing = self._size - self._length
            yield self.rest(view[:missing])
            view = view[missing:]
        self._held.append(view)
        self._length += len(view)

    def rest(self, more: memoryview | bytes = b"") -> bytes:
        """What is held, and this behind it; nothing is held then."""
        part = b"".join((*self._held, more))
        self._held, self._length = [], 0
        return part


class Sealer:
    """Seals one entry as it comes. data_key: of its case; place: its key in the evidence.

    key: the entry's own key, which opens this entry and no other.
    """

    def __init__(self, data_key: bytes, place: str) -> None:
        salt, self._prefix = secrets.token_bytes(_SALT), secrets.token_bytes(_PREFIX)
        self.key = _entry_key(data_key, salt, place)
        self._cipher = AESGCM(self.key)
        self._header = _MAGIC + salt + self._prefix
        self._cutter = _Cutter(CHUNK)
        self._count = 0

    def update(self, content: bytes) -> Iterator[bytes]:
        """What can be written now. At most a record is held back, because it may be the last. Go on to its end."""
        if self._header:
            yield self._header
            self._header = b""
        for part in self._cutter.cut(content):
            yield self._record(part, last=False)

    def finish(self) -> Iterator[bytes]:
        """The rest; nothing may follow."""
        yield self._header + self._record(self._cutter.rest(), last=True)

    def _record(self, content: bytes, *, last: bool) -> bytes:
        nonce = _nonce(self._prefix, self._count, last=last)
        self._count += 1
        return self._cipher.encrypt(nonce, content, None)


def seal_entry(content: bytes, data_key: bytes, place: str) -> bytes:
    """An entry sealed at once."""
    sealer = Sealer(data_key, place)
    return b"".join((*sealer.update(content), *sealer.finish()))


def open_entry(pieces: Iterable[bytes], data_key: bytes, place: str) -> Iterator[bytes]:
    """The content of an entry that comes in pieces of any size, record by record; each was proved before it is given.

    Only when the iterator has ended is the content known to be whole. Raises SealBrokenError.
    """
    return _open_records(pieces, lambda salt: _entry_key(data_key, salt, place))


def open_entry_with(pieces: Iterable[bytes], key: bytes) -> Iterator[bytes]:
    """The same with the entry's own key."""
    return _open_records(pieces, lambda _: key)


def join(parts: Iterable[bytes]) -> bytes:
    """All parts as one. In a buffer that grows: a list to be joined would be held beside its sum."""
    file = io.BytesIO()
    for part in parts:
        file.write(part)
    return file.getvalue()


def _open_records(pieces: Iterable[bytes], key_of: Callable[[bytes], bytes]) -> Iterator[bytes]:
    coming, head = iter(pieces), b""
    while len(head) < _HEADER:
        piece = next(coming, None)
        if piece is None:
            raise SealBrokenError("the sealed entry was cut off")
        head += piece
    if not head.startswith(_MAGIC):
        raise SealBrokenError("this is no sealed entry")
    cipher, prefix = AESGCM(key_of(head[len(_MAGIC) : _HEADER - _PREFIX])), head[_HEADER - _PREFIX : _HEADER]
    cutter, count = _Cutter(_RECORD), 0
    for piece in itertools.chain((head[_HEADER:],), coming):
        for record in cutter.cut(piece):
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

    place: says table, column and row; a value opens at its own place alone.
    """

    def __init__(self, data_key: bytes) -> None:
        self._cipher = AESGCM(_derive(data_key, None, b"veridask values 1"))

    def seal(self, value: Any, place: str) -> bytes:
        """A value of JSON's types, sealed."""
        nonce = secrets.token_bytes(_NONCE)
        content = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        return _VALUE + nonce + self._cipher.encrypt(nonce, content, place.encode())

    def open(self, value: bytes, place: str) -> Any:
        """The value as it was sealed. Raises SealBrokenError."""
        if value[:1] != _VALUE or len(value) < 1 + _NONCE + _TAG:
            raise SealBrokenError("this is no sealed value")
        return json.loads(_decrypt(self._cipher, value[1 : 1 + _NONCE], value[1 + _NONCE :], place.encode()))
