"""The keyring: encryption keys (KEKs), which only wrap data keys. Each case has one data key, stored wrapped.

    first:3q2+…=          the file: one key per line: id, colon, 32 bytes in base64
    2025-spring:n3v…=     the first key wraps; the others only unwrap what they wrapped earlier

A wrapped data key is nonce 12 ‖ AES-256-GCM of the 32 bytes, bound to its case and to the id of the key that wrapped
it. NIST SP 800-38D allows 2^32 random nonces per key, so one key is enough for that many cases. The wrapped key is in
the row of its case (`service.store.data_keys`), apart from the evidence. Once it is erased, everything sealed with it
is lost, in every copy. Workers have none of these keys.

Encrypting data with a data key is in `service.crypto.sealing`.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.crypto.key_files import read_or_create
from service.crypto.sealing import KEY_BYTES
from service.errors import KeyMissingError, SettingsError

DEFAULT_FILE = "encryption.keys"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NONCE = 12


@dataclass(frozen=True)
class WrappedKey:
    """A data key as it is stored. key_id: id of the encryption key that wrapped it."""

    key_id: str
    sealed: bytes = field(repr=False)


class Keyring:
    """Encryption keys by id. The first one wraps; all unwrap."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.first = next(iter(keys))

    @classmethod
    def from_text(cls, text: str) -> Keyring:
        """Parse the text of a key file. Raises SettingsError, which names the line but reveals nothing of the key."""
        keys: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            key_id, _, encoded = line.strip().partition(":")
            if not _ID.fullmatch(key_id):
                raise SettingsError(f"line {number} does not begin with a key's id and a colon")
            if key_id in keys:
                raise SettingsError(f"line {number} has the id {key_id} a second time")
            try:
                key = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if len(key) != KEY_BYTES:
                raise SettingsError(f"the key {key_id} in line {number} is not {KEY_BYTES} bytes in base64")
            keys[key_id] = key
        if not keys:
            raise SettingsError("no key is in it")
        return cls(keys)

    def wrap(self, data_key: bytes, case_id: str) -> WrappedKey:
        """Wrap a data key for a case, with the first key."""
        nonce = secrets.token_bytes(_NONCE)
        return WrappedKey(
            self.first, nonce + self._ciphers[self.first].encrypt(nonce, data_key, _context(self.first, case_id))
        )

    def new_data_key(self, case_id: str) -> WrappedKey:
        """Create a data key for a case, wrapped."""
        return self.wrap(secrets.token_bytes(KEY_BYTES), case_id)

    def data_key(self, wrapped: WrappedKey, case_id: str) -> bytes:
        """Unwrap the data key of a case. Raises KeyMissingError."""
        cipher = self._ciphers.get(wrapped.key_id)
        if cipher is None:
            raise KeyMissingError(f"sealed by the key {wrapped.key_id}, which is not among the encryption keys")
        nonce, sealed = wrapped.sealed[:_NONCE], wrapped.sealed[_NONCE:]
        try:
            return cipher.decrypt(nonce, sealed, _context(wrapped.key_id, case_id))
        except (InvalidTag, ValueError) as error:  # ValueError: cut off inside the nonce
            raise KeyMissingError(f"the key {wrapped.key_id} is another one than that which sealed this") from error


def _context(key_id: str, case_id: str) -> bytes:
    return f"veridask data key 1\n{key_id}\n{case_id}".encode()


def keyring_of(path: Path | None, folder: Path) -> Keyring:
    """Read the keyring from the file `path`, or from one in the data folder `folder`.

    The latter is created if it is missing, readable only by its owner. Raises SettingsError.
    """
    file = path or folder / DEFAULT_FILE
    try:
        if path is None:
            key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
            read_or_create(file, f"{secrets.token_hex(4)}:{key}\n".encode())
        text, mode = file.read_text("ascii"), file.stat().st_mode
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: it is no text") from None
    if mode & stat.S_IROTH:
        raise SettingsError(f"everyone on this machine can read {file}; chmod 600 it")
    try:
        return Keyring.from_text(text)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error.detail}") from error
