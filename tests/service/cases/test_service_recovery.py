"""What may die: the API, a worker, the scheduler. No acknowledged upload is lost, and the case goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, select

from benchmarks.topology import free_port
from graphs.case import node_key
from graphs.records import Step
from service.assembly import assembled, opened_stores
from service.cases.commands import NewCase
from service.client import ProblemError, VeridaskClient
from service.schemas.cases import CaseView, CreatedView
from service.server.local import Running
from service.store.tables import EventRow, UploadRow
from tests.support.data_folders import everything_in, server_in, settings_in
from tests.support.kept_media import kept
from tests.support.resumable import begun, device, offset, patched
from tests.support.schedulers import scheduler, states, until
from workers.cluster import EmbeddedCluster
from workers.errors import ClusterError

pytestmark = pytest.mark.cluster
ROUNDS, CASES = 3, 6


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
    with server_in(tmp_path, cluster) as local:
        running = local.start()
        with VeridaskClient(running.url, running.key) as client:
            case = client.create("recorded", metadata={"kept": "Ottilie-Marker-Sample"})
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
            assert after.metadata == {"kept": "Ottilie-Marker-Sample"}
            assert {step.attempts for step in after.steps} == {1}
    database = create_engine(settings_in(tmp_path).store_url)
    with database.connect() as store:
        rows = store.execute(select(UploadRow.evidence_key, UploadRow.sha256)).all()
        kinds = Counter(store.scalars(select(EventRow.type)))
    database.dispose()
    assert kinds["decision"] <= 1
    assert {digest for _, digest in rows} == {hashlib.sha256(video).hexdigest()}
    assert asyncio.run(media(tmp_path, [key for key, _ in rows])) == [video] * len(rows)
    plain = (b"Ottilie-Marker-Sample", video[100:140], video[-40:])
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or not any(marker in path.read_bytes() for marker in plain), path
    assert not any(marker in everything_in(tmp_path) for marker in plain)


async def media(folder: Path, keys: list[str]) -> list[bytes]:
    async with opened_stores(settings_in(folder)) as (_, evidence):
        return [await evidence.read(key) for key in keys]


def test_an_upload_that_dies_with_its_worker_is_delivered_again(
    embedded: tuple[EmbeddedCluster, str], client: VeridaskClient, video: bytes
) -> None:
    """The worker that holds the media is killed right after the answer; its nanny starts another."""
    case = client.create("recorded")
    client.upload(case.id, "face", video, "video/mp4")
    worker = embedded[0].processes["cpu-0"]
    os.kill(worker, signal.SIGKILL)
    judged(client, case.id, "face")
    client.upload(case.id, "front", video, "video/mp4")
    judged(client, case.id, "face", "front")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and client.ready().missing:
        time.sleep(0.2)
    assert client.ready().ready
    client.cancel(case.id)


async def test_a_new_scheduler_gets_all_open_cases_again(tmp_path: Path) -> None:
    port = free_port()
    settings = settings_in(tmp_path, scheduler=f"tcp://127.0.0.1:{port}", cluster_timeout_s=5)
    with scheduler(port):
        stack = AsyncExitStack()
        service = await stack.enter_async_context(assembled(settings))
    # The scheduler of that block is gone when the first cases are asked for.
    async with stack:
        await until(lambda: not service.reconciler.cells.up)
        assert await service.missing() == ["scheduler"]
        with pytest.raises(ClusterError):
            await service.cases.create(NewCase("standard", None, {}), None, by="test")
        assert await service.store.replicas.orphaned_cases(datetime.now(UTC), 10) == []
        with scheduler(port):
            await until(lambda: service.reconciler.cells.up)
            assert await service.missing() == ["worker:CPU", "worker:GPU"]
            created = await service.cases.create(NewCase("standard", None, {}), None, by="test")
            case = await service.store.get(str(created.answer["id"]))
            closed = await service.cases.create(NewCase("standard", None, {}), None, by="test")
            await service.cases.cancel(str(closed.answer["id"]), by="test")
            async with asyncio.timeout(10):  # the canceled case's graph is let go
                while str(closed.answer["id"]) in str(first := await states(settings.scheduler)):
                    await asyncio.sleep(0.1)
            verdict, upload = node_key("verdict", case.spec), node_key("upload_front", case.spec)
            assert (first[verdict], first[upload]) == ("waiting", "no-worker")
        await until(lambda: not service.reconciler.cells.up)
        with scheduler(port):
            await until(lambda: service.reconciler.cells.up)
            async with asyncio.timeout(30):
                while await states(settings.scheduler) != first:
                    await asyncio.sleep(0.1)


@pytest.mark.usefixtures("server")
def test_a_folder_with_a_cluster_of_its_own_is_nobody_else_s(server_folder: Path) -> None:
    """With a cluster of its own, a service would believe the cases of the others to be abandoned."""
    environment = {**os.environ, "VERIDASK_DATA_DIR": str(server_folder), "VERIDASK_PORT": "0"}
    alone = subprocess.run(
        [sys.executable, "-m", "service.cli", "serve"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert alone.returncode == 1
    assert "another service uses the data folder" in alone.stderr
    assert "--scheduler" in alone.stderr


async def test_a_case_that_nobody_works_on_goes_to_a_human_at_its_deadline(tmp_path: Path, video: bytes) -> None:
    """No worker is there: uploads are acknowledged all the same, because they are durable, and the case ends."""

    async def body() -> AsyncIterator[bytes]:
        yield video

    port = free_port()
    settings = settings_in(tmp_path, scheduler=f"tcp://127.0.0.1:{port}", decision_timeout_s=60)
    with scheduler(port):
        async with assembled(settings) as service:
            await until(lambda: service.reconciler.cells.up)
            created = await service.cases.create(NewCase("recorded", None, {}), None, by="test")
            case = await service.store.get(str(created.answer["id"]))
            for step in case.steps:
                case = await service.cases.upload(case, step, "video/mp4", len(video), body(), by="test")
            assert case.status == "processing"
            now = datetime.now(UTC)
            await service.cases.sweep(now + timedelta(seconds=30))
            assert (await service.store.get(case.id)).status == "processing"
            await service.cases.sweep(now + timedelta(seconds=90))
            ended = await service.store.get(case.id)
            assert ended.status == "in_review"
            assert ended.recorded is not None
            assert ended.recorded.decided_by == "deadline"
            assert [reason.code for reason in ended.recorded.decision.reasons] == ["check_not_clear"]
            forgotten = await service.cases.create(NewCase("recorded", None, {}), None, by="test")
            await service.cases.sweep(now + timedelta(days=2))
            assert (await service.store.get(str(forgotten.answer["id"]))).status == "expired"
            await until(lambda: not service.reconciler._tracked)


def distinct(video: bytes, number: int) -> bytes:
    """The same film with a box of its own behind it, which players skip: no two uploads are alike."""
    mark = number.to_bytes(8, "big") * 4
    return video + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark


@dataclass
class InPieces:
    """A resumable upload, sent in pieces of a twentieth. told: the offset that was acknowledged last."""

    case: CreatedView
    step: Step
    media: bytes
    path: str = ""
    told: int = 0

    def begin(self, at: Running) -> None:
        with device(at.url, self.case) as http:
            self.path = begun(http, self.case, len(self.media), self.step)

    def go_on(self, at: Running) -> None:
        """Send what the service does not have, which is nothing that it told to have."""
        with device(at.url, self.case) as http:
            came = offset(http, self.path)
            assert came >= self.told
            while came < len(self.media):
                answer = patched(http, self.path, came, self.media[came : came + len(self.media) // 20])
                assert answer.status_code == 204, answer.text
                self.told = came = int(answer.headers["upload-offset"])


@pytest.mark.timeout(400)
def test_no_acknowledged_upload_of_many_is_lost_when_the_api_is_killed(
    cluster: str, tmp_path: Path, video: bytes
) -> None:
    """Uploads of many cases at once, a third of them resumable, and SIGKILL among them, several times over: first when
    a resumable one has begun, then at random moments. What was answered with 202 is there after the restart byte by
    byte, and resumable ones have no less than they were told; what was not is a step that takes its upload still.
    """
    moments = random.Random(20260301)
    acknowledged: dict[tuple[str, str], str] = {}
    unanswered: set[tuple[str, str]] = set()
    broken_off = 0
    numbers = count()
    with server_in(tmp_path, cluster, key_rate=1000) as local:
        running = local.start()
        for number in range(ROUNDS):
            with VeridaskClient(running.url, running.key) as client:
                cases = [client.create("recorded") for _ in range(CASES)]
            wanted = [(case, step.step, distinct(video, next(numbers))) for case in cases for step in case.steps]
            resumable: dict[tuple[str, str], InPieces] = {}
            first = threading.Event()

            def send(
                case: CreatedView,
                step: Step,
                media: bytes,
                at: Running = running,
                first: threading.Event = first,
                resumable: dict[tuple[str, str], InPieces] = resumable,
            ) -> None:
                try:
                    first.set()
                    if step == "face":
                        resumable[case.id, step] = upload = InPieces(case, step, media)
                        upload.begin(at)
                        upload.go_on(at)
                    else:
                        with VeridaskClient(at.url, at.key) as sender:
                            sender.upload(case.id, step, media, "video/mp4")
                except (httpx.TransportError, ProblemError):
                    unanswered.add((case.id, step))
                else:
                    acknowledged[case.id, step] = hashlib.sha256(media).hexdigest()

            with ThreadPoolExecutor(len(wanted)) as senders:
                sent = [senders.submit(send, *one) for one in wanted]
                first.wait(30)
                if number:
                    time.sleep(moments.uniform(0.0, 1.2))
                while not number and not any(each.told for each in list(resumable.values())):
                    time.sleep(0.001)
                os.kill(running.processes["api"], signal.SIGKILL)
                for each in sent:
                    each.result()
            assert local.process is not None
            local.process.wait()
            running = local.start()
            for upload in (each for each in resumable.values() if each.path):
                broken_off += 0 < upload.told < len(upload.media)
                upload.go_on(running)
                acknowledged[upload.case.id, upload.step] = hashlib.sha256(upload.media).hexdigest()
            with VeridaskClient(running.url, running.key) as client:
                for case in cases:
                    for step in client.case(case.id).steps:
                        if step.attempts == 0:
                            assert (case.id, step.step) in unanswered
                    client.cancel(case.id)
        there = kept(tmp_path)
        assert acknowledged.items() <= there.items()
        assert there.keys() - acknowledged.keys() <= unanswered, "durable, but its answer died with the process"
    assert unanswered, "no kill came among the uploads"
    assert broken_off, "no kill came in the middle of a resumable one"
    assert acknowledged
