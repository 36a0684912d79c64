"""API keys and client secrets as such: texts, digests, times, the command line."""

from __future__ import annotations

import asyncio
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from service.cli.main import app
from service.crypto.client_secrets import Secrets
from service.errors import TooManyRequestsError, UnknownKeyError
from service.http.rate_limits import Buckets, Limits
from service.store.api_keys import ApiKeys
from service.store.database import Database
from service.store.revisions import prepare

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
CASE = "case_" + "7" * 26
SECRETS = Secrets(b"k" * 32)


def keys_in(folder: Path) -> ApiKeys:
    database = Database(f"sqlite:///{folder / 'cases.sqlite'}")
    prepare(database, "at_start")
    return ApiKeys(database)


@pytest.fixture
def keys(tmp_path: Path) -> ApiKeys:
    return keys_in(tmp_path)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_key_is_found_by_its_text_and_kept_as_a_digest(keys: ApiKeys, tmp_path: Path) -> None:
    key, text = keys.create("shop", ["cases:read", "cases:write"], NOW)
    assert await keys.opened_by(text, NOW) == key
    assert key.scopes == ("cases:write", "cases:read")
    kept = on_disk(tmp_path)
    assert text[-43:].encode() not in kept
    assert key.secret_hash.encode() in kept


@settings(max_examples=60, deadline=None)
@given(data=st.data())
async def test_no_other_text_opens_a_key(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "one_key"
    folder.mkdir(exist_ok=True)
    keys = keys_in(folder)
    _, text = keys.create("one", ["admin"], NOW)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from(string.ascii_letters + string.digits + "_- \x00ä"))
    changed = text[:place] + letter + text[place + 1 :]
    assert (await keys.opened_by(changed, NOW) is not None) == (changed == text)
    assert await keys.opened_by(data.draw(st.text(max_size=80)), NOW) is None


async def test_keys_end(keys: ApiKeys) -> None:
    _, text = keys.create("a day", ["admin"], NOW, NOW + timedelta(days=1))
    assert await keys.opened_by(text, NOW + timedelta(hours=23)) is not None
    assert await keys.opened_by(text, NOW + timedelta(days=1)) is None
    revoked, text = keys.create("revoked", ["admin"], NOW)
    assert keys.revoke(revoked.id, NOW).revoked_at == NOW
    assert keys.revoke(revoked.id, NOW + timedelta(days=1)).revoked_at == NOW, "the first time counts"
    assert await keys.opened_by(text, NOW) is None
    with pytest.raises(UnknownKeyError):
        keys.revoke("key_none", NOW)


@given(st.text(max_size=90), st.integers(0, 2**35))
def test_a_secret_opens_its_case_until_its_time(other: str, seconds: int) -> None:
    until = datetime.fromtimestamp(seconds, UTC)
    secret = SECRETS.of(CASE, until)
    assert SECRETS.until(secret, CASE) == until
    assert SECRETS.until(secret, CASE[:-1] + "8") is None
    assert Secrets(b"l" * 32).until(secret, CASE) is None
    assert SECRETS.until(other, CASE) is None
    longer = SECRETS.of(CASE, until + timedelta(seconds=1))
    head, _, seal = secret.rpartition("_")
    assert SECRETS.until(f"{longer.rpartition('_')[0]}_{seal}", CASE) is None
    assert SECRETS.until(f"{head}_{longer.rpartition('_')[2]}", CASE) is None


def test_a_bucket_fills_with_time() -> None:
    bucket = Buckets(rate=2, burst=3)
    assert [bucket.take("a", 10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take("b", 10.0) == 0, "each has its own"
    assert [bucket.take("a", 10.5), bucket.take("a", 10.5)] == [0, 0.5]
    assert [bucket.take("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5], "not more than it holds"


def test_limits_say_when_to_come_again() -> None:
    limits = Limits(key_rate=0.25, case_rate=100)
    for _ in range(2):
        limits.count_key("key_1")
    with pytest.raises(TooManyRequestsError) as refused:
        limits.count_key("key_1")
    assert 0 < refused.value.retry_after_s <= 4
    limits.count_key("key_2")


def test_the_command_makes_lists_and_revokes(tmp_path: Path) -> None:
    at = ["--data-dir", str(tmp_path)]
    runner = CliRunner()
    made = runner.invoke(app, ["keys", "create", "--name", "shop", "--scope", "cases:write", "--days", "9", *at])
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    key = asyncio.run(keys_in(tmp_path).opened_by(text, datetime.now(UTC)))
    assert key is not None
    assert (key.name, key.scopes) == ("shop", ("cases:write",))
    assert key.expires_at is not None
    assert text not in made.stderr
    listed = runner.invoke(app, ["keys", "list", *at]).stdout
    assert key.id in listed
    assert text[-43:] not in listed
    assert runner.invoke(app, ["keys", "revoke", key.id, *at]).exit_code == 0
    assert "revoked" in runner.invoke(app, ["keys", "list", *at]).stdout
    assert runner.invoke(app, ["keys", "revoke", "key_none", *at]).exit_code == 1
    assert runner.invoke(app, ["keys", "create", "--name", "x", "--scope", "everything", *at]).exit_code == 2
    assert runner.invoke(app, ["keys", "create", "--name", "\n", "--scope", "admin", *at]).exit_code == 2
