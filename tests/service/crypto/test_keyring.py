"""Encryption keys: made once, rotated, and unsafe files refused without a word of the key."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from service.crypto.keyring import Keyring, WrappedKey, keyring_of
from service.errors import KeyMissingError, SettingsError

CASE, OTHER = "case_01kb0000000000000000000000", "case_01kb0000000000000000000001"


def line(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}\n"


def test_a_keyring_is_made_once_and_is_private(tmp_path: Path) -> None:
    wrapped = keyring_of(None, tmp_path).new_data_key(CASE)
    assert len(keyring_of(None, tmp_path).data_key(wrapped, CASE)) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["encryption.keys"]
    assert (tmp_path / "encryption.keys").stat().st_mode & 0o077 == 0


def test_the_first_key_wraps_and_the_others_open() -> None:
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    before = Keyring({"old": old}).new_data_key(CASE)
    both = Keyring.from_text(line("new", new) + "\n" + line("old", old))
    data_key = both.data_key(before, CASE)
    after = both.wrap(data_key, CASE)
    assert (before.key_id, after.key_id) == ("old", "new")
    assert Keyring({"new": new}).data_key(after, CASE) == data_key
    with pytest.raises(KeyMissingError, match="the key old,"):
        Keyring({"new": new}).data_key(before, CASE)


def test_data_keys_differ_and_belong_to_their_case() -> None:
    keyring = Keyring({"a": bytes(32)})
    first, second = keyring.new_data_key(CASE), keyring.new_data_key(OTHER)
    assert keyring.data_key(first, CASE) != keyring.data_key(second, OTHER)
    cut = WrappedKey("a", first.sealed[:5])
    for wrapped, case_id in ((first, OTHER), (cut, CASE), (WrappedKey("a", first.sealed[:-1] + b"x"), CASE)):
        with pytest.raises(KeyMissingError):
            keyring.data_key(wrapped, case_id)
    with pytest.raises(KeyMissingError, match="another one"):
        Keyring({"a": bytes(31) + b"x"}).data_key(first, CASE)
    with pytest.raises(KeyMissingError, match="another one"):
        Keyring({"b": bytes(32)}).data_key(WrappedKey("b", first.sealed), CASE)
    assert "sealed" not in repr(first)


SECRET = base64.b64encode(b"s" * 32).decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no key"),
        ("\n \n", "no key"),
        (SECRET, "line 1"),
        (f"a:{SECRET}\nb {SECRET}\n", "line 2"),
        (f"a:{SECRET}\na:{SECRET}\n", "a second time"),
        (f"a:{SECRET[:-4]}\n", "32 bytes"),
        (f"a:{SECRET}=\n", "32 bytes"),
        (f"a:{SECRET[:10]}!{SECRET[10:]}\n", "32 bytes"),
        (f"../a:{SECRET}\n", "line 1"),
        ("a:\n", "32 bytes"),
    ],
)
def test_a_wrong_file_is_refused_without_its_secret(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=message) as refused:
        keyring_of(path, tmp_path)
    assert SECRET[:10] not in str(refused.value)


def test_a_file_that_everyone_can_read_is_absent_or_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with pytest.raises(SettingsError, match="cannot be read"):
        keyring_of(path, tmp_path)
    path.write_text(line("a", bytes(32)))
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        keyring_of(path, tmp_path)
    path.chmod(0o600)
    assert keyring_of(path, tmp_path).first == "a"
    path.write_bytes(b"\xff\x00")
    with pytest.raises(SettingsError, match="no text"):
        keyring_of(path, tmp_path)
    keyring_of(None, tmp_path)
    (tmp_path / "encryption.keys").chmod(0o604)
    with pytest.raises(SettingsError, match="chmod 600"):
        keyring_of(None, tmp_path)
