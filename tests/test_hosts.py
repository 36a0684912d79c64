"""API processes on several hosts, which share no folder: PostgreSQL, object storage and the service's key instead."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from object_storage import BUCKET

from graphs.records import Step
from service.client import VeridaskClient
from service.evidence_store import EvidenceBucket
from service.findings import group_root
from service.server import LocalServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
STEPS: tuple[Step, ...] = ("front", "back", "face")


def test_a_host_dies_and_another_decides_from_shared_stores(
    cluster: str, tmp_path: Path, postgres_database: str, s3: str, video: bytes
) -> None:
    key = tmp_path / "service.key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    shared = {
        "database_url": postgres_database,
        "evidence_url": f"s3://{BUCKET}/hosts",
        "evidence_endpoint": s3,
        "service_key_file": key,
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
        kept = EvidenceBucket(f"s3://{BUCKET}/hosts", s3)
        assert sorted(found for found, _ in kept.media()) == sorted(keys)
        assert {kept.read(found) for found in keys} == {video}
        while not all(has_findings(kept, created.id, step) for step in STEPS):  # written when nobody waits any more
            time.sleep(0.1)


def has_findings(kept: EvidenceBucket, case_id: str, step: Step) -> bool:
    try:
        return step in kept.group(group_root(case_id))
    except FileNotFoundError:
        return False
