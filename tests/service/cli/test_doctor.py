"""`veridask doctor`: each thing that it looks at is really broken, and it says so and what to do."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.topology import free_port
from service.assembly import opened_stores
from service.cli import diagnoses
from service.cli.diagnoses import Finding
from service.cli.doctor import given_settings
from service.server.local import Running
from service.settings.settings import Settings
from service.store.database import Database
from service.store.revisions import newest, upgrade
from tests.support.case_stores import created
from tests.support.data_folders import settings_in
from tests.support.object_storage import BUCKET
from tests.support.schedulers import scheduler, until_it_listens


def verdicts(found: Iterable[Finding]) -> dict[str, str]:
    return {each.what: each.verdict for each in found}


async def made(settings: Settings) -> None:
    async with opened_stores(settings):
        pass


def test_a_key_that_others_may_read_is_unsafe(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert verdicts(diagnoses.keys(settings)) == {"key files": "ok"}
    key = tmp_path / "service.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    assert verdicts(diagnoses.keys(settings)) == {"key service.key": "ok"}
    key.chmod(0o640)
    [found] = diagnoses.keys(settings)
    assert found.verdict == "unsafe"
    assert f"chmod 600 {key}"[:9] in found.advice


def test_a_mounted_secret_may_be_its_group_s_and_nobody_else_s(tmp_path: Path) -> None:
    held = tmp_path / "mounted.keys"
    held.write_text(f"first:{base64.b64encode(bytes(32)).decode()}\n")
    held.chmod(0o640)
    settings = Settings(data_dir=tmp_path / "data", encryption_keys_file=held)
    assert verdicts(diagnoses.keys(settings)) == {"key mounted.keys": "ok"}
    held.chmod(0o642)
    assert verdicts(diagnoses.keys(settings)) == {"key mounted.keys": "unsafe"}


def test_encryption_keys_that_are_lost_are_told_and_not_made_anew(tmp_path: Path) -> None:
    """A start without them would make a key that opens nothing."""
    settings = Settings(data_dir=tmp_path)
    assert [each.detail for each in diagnoses.encryption(settings)] == ["none yet: created at the first start"]
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"

    async def with_a_case() -> None:
        async with opened_stores(settings) as (store, _):
            await created(store)

    asyncio.run(with_a_case())
    assert [each.detail for each in diagnoses.encryption(settings)] == ["they open the encrypted data"]
    path = tmp_path / "encryption.keys"
    key_id, _, key = path.read_text().strip().partition(":")
    path.unlink()
    [lost] = diagnoses.encryption(settings)
    assert (lost.verdict, key_id in lost.advice, path.exists()) == ("missing", True, False)
    path.write_text(f"{key_id}:{base64.b64encode(bytes(32)).decode()}\n")
    path.chmod(0o600)
    [other] = diagnoses.encryption(settings)
    assert (other.verdict, "another one" in other.advice) == ("missing", True)
    path.write_text(f"new:{base64.b64encode(bytes(32)).decode()}\n{key_id}:{key}\n")
    assert verdicts(diagnoses.encryption(settings)) == {"encryption keys": "ok"}
    assert key not in str([*diagnoses.encryption(settings), lost, other])


def test_a_case_store_of_another_version_is_told(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert [each.detail for each in diagnoses.store(settings)] == ["none yet: created at the first start"]
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    asyncio.run(made(settings))
    assert [each.detail for each in diagnoses.store(settings)] == [f"sqlite, revision {newest()}"]
    with closing(sqlite3.connect(tmp_path / "cases.sqlite")) as store, store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
    [found] = diagnoses.store(settings)
    assert (found.verdict, "newer release" in found.advice) == ("missing", True)


def test_a_case_store_that_is_older_is_told(tmp_path: Path) -> None:
    database = Database(Settings(data_dir=tmp_path).store_url)
    upgrade(database, "0001")
    database.engine.dispose()
    [found] = diagnoses.store(Settings(data_dir=tmp_path))
    assert (found.verdict, found.detail) == ("ok", f"sqlite, revision 0001: upgraded to {newest()} at the next start")
    [found] = diagnoses.store(Settings(data_dir=tmp_path, migrations="by_command"))
    assert (found.verdict, "`veridask db upgrade`" in found.advice) == ("missing", True)


def test_a_database_and_its_clock(postgres_database: str) -> None:
    found = {each.what: each for each in diagnoses.store(Settings(database_url=postgres_database))}
    assert found["case store"].verdict == "ok"
    assert found["clock of the case store"].verdict == "ok"
    assert abs(float(found["clock of the case store"].detail.split()[0])) < diagnoses.CLOCK_S


def test_a_database_that_is_away() -> None:
    settings = Settings(database_url=f"postgresql+psycopg://nobody:secret@127.0.0.1:{free_port()}/none")
    [found] = diagnoses.store(settings)
    assert found.verdict == "missing"
    assert "secret" not in str(found)


def test_a_clock_that_is_ahead(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock cannot be set from a test; what is taken for too far can."""
    monkeypatch.setattr(diagnoses, "CLOCK_S", -1.0)
    found = {each.what: each for each in diagnoses.store(Settings(database_url=postgres_database))}
    assert found["clock of the case store"].verdict == "unsafe"
    assert "NTP" in found["clock of the case store"].advice


def test_evidence_in_object_storage_is_tried_and_left_as_it_was(s3: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, evidence_url=f"s3://{BUCKET}", evidence_endpoint=s3)
    assert verdicts(diagnoses.evidence(settings)) == {"evidence": "ok"}
    away = Settings(data_dir=tmp_path, evidence_url="s3://nobody-has-it", evidence_endpoint=s3)
    assert verdicts(diagnoses.evidence(away)) == {"evidence": "missing"}


def test_a_disk_under_its_reserve(tmp_path: Path) -> None:
    found = verdicts(diagnoses.evidence(Settings(data_dir=tmp_path, min_free_bytes=2**60)))
    assert found == {"evidence": "ok", "disk reserve": "missing"}


def test_a_cluster_without_workers_and_none_at_all() -> None:
    port = free_port()
    settings = Settings(scheduler=f"tcp://127.0.0.1:{port}")
    [away] = diagnoses.clusters(settings)
    assert (away.what, away.verdict) == ("cluster", "missing")
    with scheduler(port):
        until_it_listens(port)
        [empty] = diagnoses.clusters(settings)
    assert (empty.verdict, empty.detail) == ("missing", "workers: 0 CPU, 0 GPU")
    assert "--resources CPU=" in empty.advice


@pytest.mark.cluster
def test_a_service_that_runs(server: Running, server_folder: Path) -> None:
    settings = settings_in(server_folder, scheduler=server.scheduler)
    assert [each.detail for each in diagnoses.clusters(settings)] == ["workers: 1 CPU, 1 GPU"]
    found = {each.what: each for each in diagnoses.service(settings)}
    assert found["service"].detail == f"ready at {server.url}"
    store = verdicts(diagnoses.store(settings))
    assert (store["case store"], set(store.values())) == ("ok", {"ok"})
    assert verdicts(diagnoses.encryption(settings)) == {"encryption keys": "ok"}
    keys = verdicts(diagnoses.keys(settings))
    assert (keys["key service.key"], keys["key encryption.keys"]) == ("ok", "ok")


def test_unsafe_settings_are_a_finding_and_the_rest_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIDASK_PORT", "99999")
    monkeypatch.setenv("VERIDASK_DRAIN_S", "-1")
    settings, found = given_settings()
    assert verdicts(found) == {"VERIDASK_PORT": "unsafe", "VERIDASK_DRAIN_S": "unsafe"}
    assert settings.port == 8080


@pytest.mark.timeout(300)
def test_the_command_says_it_in_a_table_and_by_its_exit_code(tmp_path: Path) -> None:
    environment = {**os.environ, "VERIDASK_DATA_DIR": str(tmp_path), "COLUMNS": "200"}
    key = tmp_path / "service.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o644)
    command = [sys.executable, "-m", "service.cli", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if "key service.key" in line]
    assert len(rows) == 1
    assert "unsafe" in rows[0]
    assert any("GPU" in line and "networks run on" in line for line in done.stdout.splitlines())
