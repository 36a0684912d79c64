"""API processes on several hosts, which share no folder: PostgreSQL, object storage and the keys instead."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from graphs.records import Step
from service.assembly import opened_stores
from service.client import VeridaskClient
from service.server.local import LocalServer
from service.settings.settings import Settings
from tests.support.object_storage import BUCKET

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
STEPS: tuple[Step, ...] = ("front", "back", "face")


def test_a_host_dies_and_another_decides_from_shared_stores(
    cluster: str, tmp_path: Path, postgres_database: str, s3: str, video: bytes
) -> None:
    key = tmp_path / "service.key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    encryption = tmp_path / "encryption.keys"
    encryption.write_text(f"first:{base64.b64encode(os.urandom(32)).decode()}\n")
    encryption.chmod(0o600)
    shared = {
        "database_url": postgres_database,
        "evidence_url": f"s3://{BUCKET}/hosts",
        "evidence_endpoint": s3,
        "service_key_file": key,
        "encryption_keys_file": encryption,
    }
    hosts = [LocalServer(tmp_path / name, cluster, **shared) for name in ("one", "other")]
    with hosts[0], hosts[1]:
        one, other = (host.start() for host in hosts)
        with VeridaskClient(one.url, one.key) as first, VeridaskClient(other.url, other.key) as second:
            created = first.create("recorded", idempotency_key="a")
            again = second.create("recorded", idempotency_key="a")
            assert again.id == created.id
            for secret in (created.client_secret, again.client_secret):
                for host in (one, other):
                    with VeridaskClient(host.url, secret) as device:
                        assert device.case(created.id).id == created.id
            second.upload(created.id, "front", video, "video/mp4")
            for step in STEPS[1:]:
                first.upload(created.id, step, video, "video/mp4")
            os.kill(one.processes["api"], signal.SIGKILL)
            decided = second.decided(created.id, 120)
        assert decided.decision
        assert decided.decision.outcome == "resubmission_requested"
        assert list((tmp_path / "one" / "evidence").glob("cases")) == []
        with psycopg.connect(postgres_database.replace("+psycopg", "")) as store:
            kinds = Counter(kind for (kind,) in store.execute("SELECT type FROM events"))
            keys = [evidence for (evidence,) in store.execute("SELECT evidence_key FROM uploads")]
        assert kinds["decision"] == 1
        settings = Settings(data_dir=tmp_path / "other", scheduler=cluster, **shared)  # type: ignore[arg-type]
        media, steps = asyncio.run(evidence_of(settings, created.id, keys))
    assert media == {video}
    assert steps == set(STEPS)


async def evidence_of(settings: Settings, case_id: str, keys: list[str]) -> tuple[set[bytes], set[str]]:
    """The media at these keys, which are all that is kept, and the steps that have findings."""
    async with opened_stores(settings) as (_, evidence):
        assert sorted(found for found, _ in evidence.backend.media()) == sorted(keys)
        steps: set[str] = set()
        while steps != set(STEPS):  # written when nobody waits any more
            with suppress(FileNotFoundError):
                steps = set((await evidence.group(case_id)).group_keys())
            await asyncio.sleep(0.1)
        return {await evidence.read(key) for key in keys}, steps
