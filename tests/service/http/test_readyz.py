"""`/readyz` names what is missing: each thing is really taken away, and named no more once it is back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from service.client import VeridaskClient
from service.server.local import LocalServer, Running
from workers.cluster import EmbeddedCluster
from workers.placement import GPU

pytestmark = pytest.mark.cluster
MIB = 2**20


def until_missing(running: Running, *wanted: str, timeout_s: float = 60) -> None:
    """Wait until exactly that is missing, said with the status that goes with it."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = httpx.get(f"{running.url}/readyz", timeout=30)
        told = answer.json()
        assert answer.status_code == (503 if told["missing"] else 200)
        assert told["ready"] == (not told["missing"])
        if set(told["missing"]) == set(wanted):
            return
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedCluster, str]]:
    """A cluster that may be taken apart."""
    cluster = EmbeddedCluster(cpu_threads=1, gpu_threads=1, folder=tmp_path_factory.mktemp("apart"))
    yield cluster, cluster.start()
    cluster.stop()


def test_a_label_without_a_worker_and_a_scheduler_that_hangs(
    own_cluster: tuple[EmbeddedCluster, str], tmp_path: Path
) -> None:
    cluster, address = own_cluster
    with LocalServer(tmp_path, address, cluster_timeout_s=2) as local:
        running = local.start()
        cluster.end_worker("gpu-0")
        until_missing(running, "worker:GPU")
        cluster.add_worker(GPU)
        until_missing(running)
        frozen = psutil.Process(cluster.processes["scheduler"])
        frozen.suspend()
        try:
            until_missing(running, "scheduler")
            with VeridaskClient(running.url, running.key) as client:
                assert client.cases().data == [], "what needs no cluster is answered"
        finally:
            frozen.resume()
        until_missing(running)
        os.kill(cluster.processes["scheduler"], signal.SIGKILL)
        until_missing(running, "scheduler")
        until_missing(running)


def test_evidence_that_is_away_and_a_disk_that_fills_up(cluster: str, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    if free < 4096 * MIB:
        pytest.skip("there is too little room to take some away")
    with LocalServer(tmp_path / "data", cluster, min_free_bytes=free - 1024 * MIB) as local:
        running = local.start()
        evidence, elsewhere = tmp_path / "data" / "evidence", tmp_path / "elsewhere"
        evidence.rename(elsewhere)
        until_missing(running, "evidence")
        elsewhere.rename(evidence)
        until_missing(running)
        big = tmp_path / "big"
        with big.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2048 * MIB)
        until_missing(running, "evidence")
        big.unlink()
        until_missing(running)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the SQLite database for writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_store_that_cannot_be_written(cluster: str, tmp_path: Path) -> None:
    """It could still be read, and the first readiness check asked for no more than that."""
    with LocalServer(tmp_path, cluster) as local:
        running = local.start()
        with locked(tmp_path / "cases.sqlite"):
            until_missing(running, "store")
        until_missing(running)


def test_a_database_that_lets_nobody_in(cluster: str, tmp_path: Path, postgres: Path, postgres_database: str) -> None:
    name = str(make_url(postgres_database).database)
    with (
        LocalServer(tmp_path, cluster, database_url=postgres_database) as local,
        psycopg.connect(host=str(postgres), user="postgres", autocommit=True) as admin,
    ):
        running = local.start()
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        until_missing(running, "store")
        assert httpx.get(f"{running.url}/healthz").status_code == 200
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        until_missing(running)
