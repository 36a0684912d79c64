"""What may die: the API, a worker, the scheduler. No acknowledged upload is lost, and the case goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from graphs.case import node_key
from service.assembly import assembled
from service.cases import NewCase
from service.client import VeridaskClient
from service.errors import SettingsError
from service.schemas import CaseView
from service.server import LocalServer
from service.settings import Settings
from workers.cluster import EmbeddedCluster
from workers.errors import ClusterError

pytestmark = pytest.mark.cluster


def judged(client: VeridaskClient, case_id: str, *steps: str, timeout_s: float = 90) -> CaseView:
    """Wait until the quality of these steps is judged, or the case has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        case = client.case(case_id)
        known = {check.name for check in case.checks}
        if case.decision is not None or all(f"quality_{step}" in known for step in steps):
            return case
        time.sleep(0.1)
    raise AssertionError(f"not judged: {client.case(case_id)}")


def test_an_api_that_is_killed_goes_on_after_its_restart(cluster: str, tmp_path: Path, video: bytes) -> None:
    with LocalServer(tmp_path, cluster) as local:
        running = local.start()
        with VeridaskClient(running.url) as client:
            case = client.create("recorded", metadata={"kept": "yes"})
            for step in case.steps:
                client.upload(case.id, step.step, video, "video/mp4")
        os.kill(running.processes["api"], signal.SIGKILL)
        assert local.process is not None
        local.process.wait()
        (tmp_path / "evidence" / "incoming" / "half.part").write_bytes(b"half")
        running = local.start()
        assert list((tmp_path / "evidence" / "incoming").iterdir()) == []
        with VeridaskClient(running.url, case.client_secret) as client:
            after = judged(client, case.id, *(step.step for step in case.steps))
            assert after.metadata == {"kept": "yes"}
            assert {step.attempts for step in after.steps} == {1}
    with sqlite3.connect(tmp_path / "cases.sqlite") as store:
        rows = store.execute("SELECT evidence_key, sha256 FROM uploads").fetchall()
        kinds = Counter(kind for (kind,) in store.execute("SELECT type FROM events WHERE type = 'decision'"))
    store.close()
    assert kinds["decision"] <= 1
    assert {digest for _, digest in rows} == {hashlib.sha256(video).hexdigest()}
    assert [hashlib.sha256((tmp_path / "evidence" / key).read_bytes()).hexdigest() for key, _ in rows] == [
        digest for _, digest in rows
    ]


def test_an_upload_that_dies_with_its_worker_is_delivered_again(
    embedded: tuple[EmbeddedCluster, str], client: VeridaskClient, video: bytes
) -> None:
    """The worker that holds the media is killed right after the answer; its nanny starts another."""
    case = client.create("recorded")
    client.upload(case.id, "face", video, "video/mp4")
    worker = embedded[0].processes["cpu"]
    os.kill(worker, signal.SIGKILL)
    judged(client, case.id, "face")
    client.upload(case.id, "front", video, "video/mp4")
    judged(client, case.id, "face", "front")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and client.ready().missing:
        time.sleep(0.2)
    assert client.ready().ready
    client.cancel(case.id)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def scheduler(port: int) -> Iterator[None]:
    """A scheduler without workers."""
    address = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", *address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def until(holds: Any, timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.05)


async def states(address: str) -> dict[str, str]:
    """The state of every task that the scheduler knows."""

    def tasks(dask_scheduler: Any) -> dict[str, str]:
        return {str(key): task.state for key, task in dask_scheduler.tasks.items()}

    async with Client(address, asynchronous=True, set_as_default=False) as looking:
        found: dict[str, str] = await looking.run_on_scheduler(tasks)
        return found


async def test_a_new_scheduler_gets_all_open_cases_again(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(data_dir=tmp_path, scheduler=f"tcp://127.0.0.1:{port}", cluster_timeout_s=5)
    with scheduler(port):
        stack = AsyncExitStack()
        service = await stack.enter_async_context(assembled(settings))
    # The scheduler of that block is gone when the first cases are asked for.
    async with stack:
        await until(lambda: not service.link.is_up)
        assert await service.missing() == ["scheduler"]
        with pytest.raises(ClusterError):
            await service.cases.create(NewCase("standard", None, {}), None)
        assert await service.store.open_cases() == []
        with scheduler(port):
            await until(lambda: service.link.is_up)
            assert await service.missing() == ["worker:CPU", "worker:GPU"]
            created = await service.cases.create(NewCase("standard", None, {}), None)
            case = await service.store.get(str(created.answer["id"]))
            closed = await service.cases.create(NewCase("standard", None, {}), None)
            await service.cases.cancel(str(closed.answer["id"]))
            async with asyncio.timeout(10):  # the canceled case's graph is let go
                while str(closed.answer["id"]) in str(first := await states(settings.scheduler)):
                    await asyncio.sleep(0.1)
            verdict, upload = node_key("verdict", case.spec), node_key("upload_front", case.spec)
            assert (first[verdict], first[upload]) == ("waiting", "no-worker")
        await until(lambda: not service.link.is_up)
        with scheduler(port):
            await until(lambda: service.link.is_up and case.id in service.runs._runs)
            assert await states(settings.scheduler) == first
        with pytest.raises(SettingsError, match="another service uses"):
            await stack.enter_async_context(assembled(settings))


async def test_a_case_that_nobody_works_on_goes_to_a_human_at_its_deadline(tmp_path: Path, video: bytes) -> None:
    """No worker is there: uploads are acknowledged all the same, because they are durable, and the case ends."""

    async def body() -> AsyncIterator[bytes]:
        yield video

    port = free_port()
    settings = Settings(data_dir=tmp_path, scheduler=f"tcp://127.0.0.1:{port}", decision_timeout_s=60)
    with scheduler(port):
        async with assembled(settings) as service:
            await until(lambda: service.link.is_up)
            created = await service.cases.create(NewCase("recorded", None, {}), None)
            case = await service.store.get(str(created.answer["id"]))
            for step in case.steps:
                case = await service.cases.upload(case, step, "video/mp4", len(video), body())
            assert case.status == "processing"
            now = datetime.now(UTC)
            await service.cases.sweep_once(now + timedelta(seconds=30))
            assert (await service.store.get(case.id)).status == "processing"
            await service.cases.sweep_once(now + timedelta(seconds=90))
            ended = await service.store.get(case.id)
            assert ended.status == "in_review"
            assert ended.recorded is not None
            assert ended.recorded.decided_by == "deadline"
            assert [reason.code for reason in ended.recorded.decision.reasons] == ["check_not_clear"]
            forgotten = await service.cases.create(NewCase("recorded", None, {}), None)
            await service.cases.sweep_once(now + timedelta(days=2))
            assert (await service.store.get(str(forgotten.answer["id"]))).status == "expired"
            await until(lambda: not service.runs._runs)
