"""What lies on the disk: nothing of a person in plain, whoever looks through all files, and what keys change."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from graphs.records import CheckResult, Step
from service.assembly import keyring, opened_stores
from service.cases.commands import NewCase
from service.cli.main import app
from service.crypto.client_secrets import Secrets
from service.errors import CaseOpenError, ForgottenError, KeyMissingError, SealBrokenError, StoreRevisionError
from service.evidence.backends import FolderBackend
from service.evidence.evidence import Evidence
from service.evidence.findings import group_root
from service.lifecycle.case import Case, Change, Event
from service.lifecycle.transitions import accept, cancel, decide
from service.settings.settings import Settings
from service.store.cases import CaseStore
from service.store.listing import CaseFilter
from service.store.rows import StoredRequest
from service.store.webhooks import WebhookStore
from tests.support.case_stores import NOW, VERDICT, new_case, upload_of
from tests.support.on_disk import body, traces

NAME = "Ottilie-Marker-Sample"
MEDIA = b"marker of the media " * 60_000
ATTEMPTS: dict[Step, int] = {"front": 1, "face": 1}


async def played(store: CaseStore, evidence: Evidence) -> Case:
    """A case from its creation to its decision, with a name and a media that can be looked for."""
    case = replace(new_case(), metadata={"name": NAME})
    request = StoredRequest("key-1", "f" * 64, case.id, {"id": case.id, "metadata": {"name": NAME}})
    await store.create(Change(case, (Event("status", {"status": case.status, "said": NAME}),)), request)
    for step in ATTEMPTS:
        incoming = await evidence.receive(body(MEDIA), 2**30, case.id, step, 1)
        await evidence.sync(incoming)
        key = await evidence.store(incoming)
        upload = replace(upload_of(step)(await changed(case, step)), evidence_key=key, info={"title": NAME})  # type: ignore[operator]
        await store.change(case.id, lambda c, s=step: accept(c, s, NOW, "r"), upload=lambda _, u=upload: u)  # type: ignore[misc]
    check = CheckResult("text_front", "clear", properties={"name": NAME})
    verdict = replace(VERDICT, checks=(check,))
    told = Event("check", {"check": "text_front", "properties": {"name": NAME}})
    await store.change(case.id, lambda c: decide(c, ATTEMPTS, verdict, NOW), before=[told])
    name = np.frombuffer(NAME.encode(), np.uint8)
    await evidence.store_findings(case.id, "front", 1, {"text": name}, {"name": NAME})
    return await store.get(case.id)


async def changed(case: Case, step: Step) -> Case:
    return accept(case, step, NOW, "r").case


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


async def test_no_file_of_a_data_folder_holds_a_plain_word_of_a_person(settings: Settings, tmp_path: Path) -> None:
    """The log of SQLite and what is still coming in are looked through as well: all is open while it is looked at."""
    async with opened_stores(settings) as (store, evidence):
        evidence.start(set())
        case = await played(store, evidence)
        await evidence.receive(body(MEDIA), 2**30, case.id, "back", 1)  # arrived, and then the power went
        files = traces(tmp_path, b"")
        assert "cases.sqlite-wal" in files
        assert any(file.endswith(".part") for file in files)
        assert sum(file.endswith(".media") for file in files) == 2
        assert traces(tmp_path, NAME.encode(), MEDIA[:20], b"text_front") == []
        assert traces(tmp_path, b"person 7") != [], "the customer's own word for a case is plain, to be searched"
        assert case.metadata == {"name": NAME}
        assert case.checks[0].properties == {"name": NAME}
        assert [upload.info for upload in await store.uploads(case.id)] == [{"title": NAME}] * 2
        request = await store.request("key-1")
        assert request is not None
        assert request.answer["metadata"] == {"name": NAME}
        front = (await evidence.group(case.id))["front"]
        assert front.attrs["name"] == NAME
        assert bytes(np.asarray(front["text"])) == NAME.encode()  # type: ignore[index]


def test_a_repeated_request_is_told_by_a_digest_that_nobody_can_guess() -> None:
    new = NewCase("standard", None, {"name": NAME})
    digests = {new.fingerprint(Secrets(key)) for key in (b"a" * 32, b"a" * 32, b"b" * 32)}
    assert len(digests) == 2
    assert new.fingerprint(Secrets(b"a" * 32)) != replace(new, profile="document").fingerprint(Secrets(b"a" * 32))


async def test_entries_and_values_in_the_place_of_others_are_refused(settings: Settings, tmp_path: Path) -> None:
    async with opened_stores(settings) as (store, evidence):
        evidence.start(set())
        first, second = await played(store, evidence), await cancelled(store)
        one, other = (upload.evidence_key for upload in await store.uploads(first.id))
        folder = tmp_path / "evidence"
        before = (folder / one).read_bytes()
        shutil.copyfile(folder / other, folder / one)
        with pytest.raises(SealBrokenError):
            await evidence.read(one)
        (folder / one).write_bytes(before[:-1])
        with pytest.raises(SealBrokenError):
            await evidence.read(one)
        root = folder / group_root(first.id)
        shutil.copyfile(root / "zarr.json", root / "front" / "zarr.json")
        with pytest.raises(SealBrokenError):
            await evidence.group(first.id)
        (root / "front" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        with pytest.raises(SealBrokenError):
            await evidence.group(first.id)
    rows(tmp_path, "UPDATE cases SET checks = (SELECT steps FROM cases WHERE id = ?1) WHERE id = ?1", first.id)
    async with opened_stores(settings) as (store, _):
        with pytest.raises(SealBrokenError):
            await store.get(first.id)
    both = (first.id, second.id)
    rows(tmp_path, "UPDATE cases SET data_key = (SELECT data_key FROM cases WHERE id = ?1) WHERE id = ?2", *both)
    with pytest.raises(KeyMissingError):
        async with opened_stores(settings) as (store, _):
            await store.get(second.id)


async def cancelled(store: CaseStore) -> Case:
    case = new_case()
    await store.create(Change(case, ()))
    await store.change(case.id, lambda c: cancel(c, NOW))
    return await store.get(case.id)


def rows(folder: Path, statement: str, *values: str) -> None:
    with sqlite3.connect(folder / "cases.sqlite") as database:
        database.execute(statement, values)
    database.close()


async def test_a_redacted_case_has_no_key_no_media_and_no_findings(settings: Settings, tmp_path: Path) -> None:
    async with opened_stores(settings) as (store, evidence):
        evidence.start(set())
        case, other = await played(store, evidence), await played_again(store, evidence)
        copy = tmp_path.parent / f"{tmp_path.name}-copy"
        shutil.copytree(tmp_path / "evidence", copy / "evidence")
        with sqlite3.connect(tmp_path / "cases.sqlite") as database:
            ((wrapped,),) = database.execute("SELECT data_key FROM cases WHERE id = ?", (case.id,))
        database.close()
        assert traces(tmp_path, wrapped, b"person 7", b"key-1") != []
        for _ in range(2):
            redacted = await store.erasures.redact(case.id, NOW, "test")
            await evidence.erase(case.id)
        found = await asyncio.to_thread(traces, tmp_path, wrapped, b"key-1")
        assert found == [], "neither in a page nor in SQLite's log"
        assert not (tmp_path / "evidence" / "cases" / case.id).exists()
        assert await store.get(case.id) == redacted
        assert (redacted.status, redacted.metadata, redacted.client_reference_id) == ("redacted", {}, None)
        assert (redacted.steps, redacted.checks, redacted.recorded) == ({}, (), None)
        assert (await store.events(case.id), await store.uploads(case.id)) == ([], [])
        assert await store.request("key-1") is None
        with pytest.raises(ForgottenError):
            await evidence.group(case.id)
        with pytest.raises(ForgottenError):
            await evidence.store_findings(case.id, "front", 1, {}, {})
        kept = Evidence(copy / "evidence", store)
        for upload, _ in FolderBackend(copy / "evidence").media():
            if case.id in upload:
                with pytest.raises(ForgottenError):
                    await kept.read(upload)
        await store.add_events([(case.id, Event("check", {"check": "late"}))], NOW)
        assert await store.overdue(NOW + timedelta(days=9), NOW) == []
        with pytest.raises(ForgottenError):
            await store.change(case.id, lambda c: Change(c, ()))
        listed, _ = await store.page(CaseFilter(), 10, None)
        assert {one.id: (one.status, one.outcome, one.metadata) for one in listed} == {
            case.id: ("redacted", "declined", {}),
            other.id: ("canceled", None, {"name": NAME}),
        }
        assert await evidence.read((await store.uploads(other.id))[0].evidence_key) == MEDIA
    async with opened_stores(settings) as (store, _):  # starts although one key is gone
        assert (await store.get(other.id)).metadata == {"name": NAME}


async def played_again(store: CaseStore, evidence: Evidence) -> Case:
    case = replace(new_case(), metadata={"name": NAME})
    await store.create(Change(case, ()))
    key = await evidence.store(await evidence.receive(body(MEDIA), 2**30, case.id, "front", 1))
    upload = replace(upload_of("front")(await changed(case, "front")), evidence_key=key)  # type: ignore[operator]
    await store.change(case.id, lambda c: accept(c, "front", NOW, "r"), upload=lambda _: upload)
    await store.change(case.id, lambda c: cancel(c, NOW))
    return await store.get(case.id)


async def test_an_open_case_is_not_redacted(settings: Settings) -> None:
    async with opened_stores(settings) as (store, _):
        case = new_case()
        await store.create(Change(case, ()))
        with pytest.raises(CaseOpenError):
            await store.erasures.redact(case.id, NOW, "test")
        assert await store.get(case.id) == case


def key_line(key_id: str) -> str:
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}\n"


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    write(path, key_line("old"))
    return path


async def test_keys_are_rotated_and_an_old_one_is_no_longer_needed(
    tmp_path: Path, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = key_line("old")
    write(keys_file, old)
    settings = Settings(data_dir=tmp_path / "data", encryption_keys_file=keys_file)
    settings.data_dir.mkdir()
    async with opened_stores(settings) as (store, evidence):
        evidence.start(set())
        before = await played(store, evidence)
        webhooks = WebhookStore(store.database, keyring(settings))
        endpoint, secret = await webhooks.add("https://example.org/", None, None, NOW)
        gone = await cancelled(store)
        await store.erasures.redact(gone.id, NOW, "test")
    new = key_line("new")
    write(keys_file, new + old)
    async with opened_stores(settings) as (store, _):
        assert await store.get(before.id) == before
        assert await store.keys_wrapped_by_others() == 2
        after = await cancelled(store)
    write(keys_file, new)
    with pytest.raises(KeyMissingError, match="the key old,"):
        async with opened_stores(settings):
            pass
    write(keys_file, new + old)
    monkeypatch.setenv("VERIDASK_ENCRYPTION_KEYS_FILE", str(keys_file))
    for count in (2, 0):
        done = await asyncio.to_thread(CliRunner().invoke, app, ["reseal", "--data-dir", str(settings.data_dir)])
        assert (done.exit_code, f"{count} data keys" in done.output) == (0, True), done.output
    write(keys_file, new)
    async with opened_stores(settings) as (store, evidence):
        assert [await store.get(case.id) for case in (before, after)] == [before, after]
        assert await evidence.read((await store.uploads(before.id))[0].evidence_key) == MEDIA
        webhooks = WebhookStore(store.database, keyring(settings))
        assert (await webhooks.rotate(endpoint.id, NOW))[1] != secret
        await store.change(after.id, lambda case: Change(case, (Event("status", {"status": case.status}),)))
        [claim] = await webhooks.claim(NOW, NOW + timedelta(minutes=1), 1, {})
        assert claim.secrets[1] == secret
    write(keys_file, key_line("new"))
    with pytest.raises(KeyMissingError, match="another one"):
        async with opened_stores(settings):
            pass


def test_an_unsafe_file_of_keys_refuses_to_start(keys_file: Path) -> None:
    assert Settings(encryption_keys_file=keys_file).encryption_keys_file == keys_file
    keys_file.chmod(0o644)
    with pytest.raises(ValueError, match=r"VERIDASK_ENCRYPTION_KEYS_FILE: .*chmod 600"):
        Settings(encryption_keys_file=keys_file)
    keys_file.chmod(0o600)
    keys_file.write_text("a:c2hvcnQ=\n")
    with pytest.raises(ValueError, match="32 bytes"):
        Settings(encryption_keys_file=keys_file)


async def test_a_store_of_an_older_build_refuses_to_start(settings: Settings, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cases.sqlite") as database:
        database.execute("CREATE TABLE cases (id VARCHAR(40) PRIMARY KEY, checks JSON)")
    database.close()
    with pytest.raises(StoreRevisionError, match="without revisions"):
        async with opened_stores(settings):
            pass


LARGE = """
import asyncio, hashlib, json, sys
from pathlib import Path
from service.evidence.evidence import Evidence

class Keys:
    async def data_key(self, case_id):
        return bytes(32)

def peak():
    # Of this program's own memory: ru_maxrss begins with that of the process which started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

async def main(root, mebibytes):
    async def parts():
        for number in range(16 * mebibytes):
            yield bytes([number % 251]) * 65536
    evidence = Evidence(root / "evidence", Keys())
    evidence.start(set())
    await evidence.store(await evidence.receive(body_of(1), 2**30, CASE, "back", 1))
    with open("/dev/null", "wb") as nowhere:
        await evidence.copy([key for key, _ in evidence.backend.media()][0], nowhere)
    before = peak()
    incoming = await evidence.receive(parts(), 2**31, CASE, "front", 1)
    key = await evidence.store(incoming)
    with open(root / "copy", "wb") as copy:
        await evidence.copy(key, copy)
    grown = peak() - before
    with open(root / "copy", "rb") as copy:
        same = hashlib.file_digest(copy, "sha256").hexdigest() == incoming.sha256
    print(json.dumps([same, incoming.size, grown]))

async def body_of(mebibytes):
    yield bytes(mebibytes * 2**20)

CASE = "case_01kb0000000000000000000000"
asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_a_large_media_takes_the_memory_of_some_records(tmp_path: Path) -> None:
    """200 MiB in and out of a process of its own, whose peak grows by a few MiB."""
    command = [sys.executable, "-c", LARGE, str(tmp_path), "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    same, size, grown = json.loads(done.stdout)
    assert (same, size) == (True, 200 * 2**20)
    assert grown < 24, f"the peak grew by {grown:.0f} MiB"


def test_the_default_keys_are_made_in_the_data_folder(settings: Settings, tmp_path: Path) -> None:
    assert keyring(settings).first == keyring(settings).first
    assert (tmp_path / "encryption.keys").stat().st_mode & 0o077 == 0
