"""How what speaks of a person is sealed: the format, without keys of its own and without I/O.

    entry   (a media, a file of the findings)   magic ‖ salt 32 ‖ prefix 7 ‖ record ‖ record ‖ …
    record  AES-256-GCM of 1 MiB of the content, the last one of what is left; nonce = prefix ‖ count 4 ‖ last 1
    value   (a column of the case store)        version 1 ‖ nonce 12 ‖ AES-256-GCM of its JSON

Entries are the streaming format that Tink calls AES-GCM-HKDF, after STREAM of Hoang, Reyhanitabar, Rogaway and Vizár
(CRYPTO 2015): a record that was changed, left out, moved or cut off is refused, and a reader holds one at a time. Each
entry has a key of its own, made by HKDF (RFC 5869) from the data key of its case, a random salt and the place where the
entry lies, so no nonce comes twice under a key and an entry opens at its own place alone. NIST SP 800-38D allows 2^32
random nonces under one key: a case has some hundred values.

Not told: that an older entry or value was put back at the same place. Whose data keys these are says `service.keyring`.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import SealBrokenError

CHUNK = 1024 * 1024
KEY_BYTES = 32
_MAGIC = b"VDSE\x01"
_SALT, _PREFIX, _TAG, _NONCE = 32, 7, 16, 12
_HEADER = len(_MAGIC) + _SALT + _PREFIX
_RECORD = CHUNK + _TAG
_VALUE = b"\x01"


def _derived(data_key: bytes, salt: bytes | None, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose).derive(data_key)


def _entry_key(data_key: bytes, salt: bytes, place: str) -> bytes:
    return _derived(data_key, salt, _MAGIC + place.encode())


def _nonce(prefix: bytes, count: int, *, last: bool) -> bytes:
    # More than 2^32 records, four pebibytes, do not fit and raise OverflowError.
    return prefix + count.to_bytes(4, "big") + last.to_bytes(1, "big")


class Sealer:
    """Seals one entry as it comes. data_key: of its case; place: its key in the evidence.

    key: the entry's own key, which opens this entry and no other.
    """

    def __init__(self, data_key: bytes, place: str) -> None:
        salt, self._prefix = secrets.token_bytes(_SALT), secrets.token_bytes(_PREFIX)
        self.key = _entry_key(data_key, salt, place)
        self._cipher = AESGCM(self.key)
        self._ready = _MAGIC + salt + self._prefix
        self._held = bytearray()
        self._count = 0

    def update(self, content: bytes) -> bytes:
        """What can be written now; may be empty. At most a record is held back, because it may be the last."""
        self._held += content
        written = [self._ready]
        self._ready = b""
        while len(self._held) > CHUNK:
            written.append(self._record(bytes(self._held[:CHUNK]), last=False))
            del self._held[:CHUNK]
        return b"".join(written)

    def finish(self) -> bytes:
        """The rest; nothing may follow."""
        return self._ready + self._record(bytes(self._held), last=True)

    def _record(self, content: bytes, *, last: bool) -> bytes:
        nonce = _nonce(self._prefix, self._count, last=last)
        self._count += 1
        return self._cipher.encrypt(nonce, content, None)


def sealed(content: bytes, data_key: bytes, place: str) -> bytes:
    """An entry sealed at once."""
    sealer = Sealer(data_key, place)
    return sealer.update(content) + sealer.finish()


def opened(pieces: Iterable[bytes], data_key: bytes, place: str) -> Iterator[bytes]:
    """The content of an entry that comes in pieces of any size, record by record; each was proved before it is given.

    Only when the iterator has ended is the content known to be whole. Raises SealBrokenError.
    """
    return _opened(pieces, lambda salt: _entry_key(data_key, salt, place))


def opened_by(pieces: Iterable[bytes], key: bytes) -> Iterator[bytes]:
    """The same with the entry's own key."""
    return _opened(pieces, lambda _: key)


def whole(parts: Iterable[bytes]) -> bytes:
    """All parts as one. In a buffer that grows: a list to be joined would be held beside its sum."""
    file = io.BytesIO()
    for part in parts:
        file.write(part)
    return file.getvalue()


def _opened(pieces: Iterable[bytes], key_of: Callable[[bytes], bytes]) -> Iterator[bytes]:
    held, cipher, prefix, count = bytearray(), None, b"", 0
    for piece in pieces:
        held += piece
        if cipher is None:
            if len(held) < _HEADER:
                continue
            magic, salt = bytes(held[: len(_MAGIC)]), bytes(held[len(_MAGIC) : _HEADER - _PREFIX])
            if magic != _MAGIC:
                raise SealBrokenError("this is no sealed entry")
            cipher, prefix = AESGCM(key_of(salt)), bytes(held[_HEADER - _PREFIX : _HEADER])
            del held[:_HEADER]
        while len(held) > _RECORD:  # another one follows
            yield _decrypted(cipher, _nonce(prefix, count, last=False), bytes(held[:_RECORD]))
            del held[:_RECORD]
            count += 1
    if cipher is None:
        raise SealBrokenError("the sealed entry was cut off")
    yield _decrypted(cipher, _nonce(prefix, count, last=True), bytes(held))


def _decrypted(cipher: AESGCM, nonce: bytes, content: bytes, place: bytes | None = None) -> bytes:
    try:
        return cipher.decrypt(nonce, content, place)
    except InvalidTag as error:
        raise SealBrokenError("sealed data was changed, cut off, or put in the place of another") from error


class Values:
    """Seals and opens the values of one case in the case store. data_key: of that case.

    place: says table, column and row; a value opens at its own place alone.
    """

    def __init__(self, data_key: bytes) -> None:
        self._cipher = AESGCM(_derived(data_key, None, b"veridask values 1"))

    def seal(self, value: Any, place: str) -> bytes:
        """A value of JSON's types, sealed."""
        nonce = secrets.token_bytes(_NONCE)
        content = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        return _VALUE + nonce + self._cipher.encrypt(nonce, content, place.encode())

    def open(self, value: bytes, place: str) -> Any:
        """The value as it was sealed. Raises SealBrokenError."""
        if value[:1] != _VALUE or len(value) < 1 + _NONCE + _TAG:
            raise SealBrokenError("this is no sealed value")
        return json.loads(_decrypted(self._cipher, value[1 : 1 + _NONCE], value[1 + _NONCE :], place.encode()))
