"""Several API processes on one store, one evidence and one cluster; several clusters behind one API."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.topology import free_port
from service.assembly import assembled, opened_stores
from service.cases.commands import NewCase
from service.cases.takeover import Replica
from service.client import VeridaskClient
from service.errors import BacklogError
from service.lifecycle.case import Case
from service.lifecycle.transitions import cancel
from service.server.local import LocalServer, Running
from tests.support.data_folders import server_in, settings_in
from tests.support.schedulers import scheduler, states, until
from workers.errors import ClusterError

pytestmark = pytest.mark.cluster
Pair = tuple[LocalServer, Running, LocalServer, Running]


@pytest.fixture
def replicas(cluster: str, tmp_path: Path) -> Iterator[Pair]:
    """Two API processes that share a data folder."""
    with server_in(tmp_path, cluster) as one, server_in(tmp_path, cluster) as other:
        yield one, one.start(), other, other.start()


def told(folder: Path, case_id: str) -> Counter[str]:
    """How often each thing was told of a case: decisions, and checks by name."""

    async def events() -> Counter[str]:
        async with opened_stores(settings_in(folder)) as (store, _):
            return Counter(event.data.get("check") or event.type for event in await store.events(case_id))

    return asyncio.run(events())


def test_a_case_goes_on_at_another_replica(replicas: Pair, tmp_path: Path, video: bytes) -> None:
    """Behind a load balancer each upload may reach another process; each hears of what the other one does."""
    one, other = VeridaskClient(replicas[1].url, replicas[1].key), VeridaskClient(replicas[3].url, replicas[3].key)
    with one, other:
        case = one.create("recorded")
        one.upload(case.id, "front", video, "video/mp4")
        other.upload(case.id, "back", video, "video/mp4")
        other.upload(case.id, "face", video, "video/mp4")
        ended = one.decided(case.id, 90)
        assert other.case(case.id).decision == ended.decision
        one.cancel(case.id)
        assert other.case(case.id).status == "canceled"
    counted = told(tmp_path, case.id)
    assert counted["decision"] == 1
    assert {check: count for check, count in counted.items() if count > 1 and check not in ("status", "step")} == {}


@pytest.mark.parametrize("taker", [0, 1])
def test_a_replica_that_is_killed_after_the_last_upload_leaves_its_case_to_another(
    replicas: Pair, tmp_path: Path, video: bytes, taker: int
) -> None:
    """Whichever process dies: the one that created the case or the one that took the last upload."""
    runnings = (replicas[1], replicas[3])
    with (
        VeridaskClient(runnings[0].url, runnings[0].key) as first,
        VeridaskClient(runnings[taker].url, runnings[taker].key) as last,
    ):
        case = first.create("recorded")
        first.upload(case.id, "front", video, "video/mp4")
        first.upload(case.id, "back", video, "video/mp4")
        last.upload(case.id, "face", video, "video/mp4")
    os.kill(runnings[taker].processes["api"], signal.SIGKILL)
    with VeridaskClient(runnings[1 - taker].url, runnings[1 - taker].key) as survivor:
        decided = survivor.decided(case.id, 90)
    assert decided.decision
    assert decided.decision.outcome == "resubmission_requested"
    assert {step.attempts for step in decided.steps} == {1}
    assert told(tmp_path, case.id)["decision"] == 1


async def test_a_new_case_goes_to_the_cell_with_the_fewest(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    cells = ",".join(f"{name}=tcp://127.0.0.1:{port}" for name, port in zip(("east", "west"), ports, strict=True))
    settings = settings_in(tmp_path, scheduler=cells, cluster_timeout_s=5)

    async def cell_of_new() -> str:
        created = await service.cases.create(NewCase("standard", None, {}), None, by="test")
        return (await service.store.get(str(created.answer["id"]))).cell

    stack = AsyncExitStack()
    with scheduler(ports[0]):
        with scheduler(ports[1]):
            service = await stack.enter_async_context(assembled(settings))
            await until(lambda: len(service.reconciler.cells.up) == 2)
            assert Counter([await cell_of_new() for _ in range(6)]) == {"east": 3, "west": 3}
        async with stack:
            await until(lambda: service.reconciler.cells.up == ["east"])
            assert {await cell_of_new() for _ in range(2)} == {"east"}
            assert await service.missing() == ["worker:CPU@east", "worker:GPU@east", "scheduler@west"]
            with scheduler(ports[1]):
                await until(lambda: len(service.reconciler.cells.up) == 2)
                async with asyncio.timeout(20):  # the cases of the cell that was away are there again
                    while await service.reconciler.cells.graphs("west").count() != 3:
                        await asyncio.sleep(0.1)
                assert await cell_of_new() == "west"
            with pytest.raises(ClusterError, match="VERIDASK_SCHEDULER"):
                service.reconciler.cells.graphs("north")


async def test_new_cases_are_refused_while_too_many_wait(tmp_path: Path, video: bytes) -> None:
    """Without workers nothing is decided, so the backlog stays. A case that was begun goes on being served."""

    async def body() -> AsyncIterator[bytes]:
        yield video

    async def created() -> Case:
        answer = (await service.cases.create(NewCase("recorded", None, {}), None, by="test")).answer
        return await service.store.get(str(answer["id"]))

    port = free_port()
    settings = settings_in(tmp_path, scheduler=f"tcp://127.0.0.1:{port}", max_backlog=1)
    with scheduler(port):
        async with assembled(settings) as service:
            await until(lambda: service.reconciler.cells.up)
            first, second = await created(), await created()
            for step in first.steps:
                await service.cases.upload(first, step, "video/mp4", len(video), body(), by="test")
            with pytest.raises(BacklogError):
                await created()
            for step in second.steps:
                second = await service.cases.upload(second, step, "video/mp4", len(video), body(), by="test")
            assert second.status == "processing"
            await service.cases.cancel(first.id, by="test")
            with pytest.raises(BacklogError):
                await created()
            await service.cases.cancel(second.id, by="test")
            assert (await created()).is_open


async def test_what_a_dead_process_left_on_the_cluster_is_let_go(tmp_path: Path) -> None:
    """A process that dies between a case's end and its release leaves a graph that nobody would let go."""
    port = free_port()
    settings = settings_in(tmp_path, scheduler=f"tcp://127.0.0.1:{port}")
    with scheduler(port):
        async with assembled(settings) as service:
            await until(lambda: service.reconciler.cells.up)
            graphs = service.reconciler.cells.graphs("main")
            created = [await service.cases.create(NewCase("standard", None, {}), None, by="test") for _ in range(3)]
            ended, foreign, _ = [str(one.answer["id"]) for one in created]
            now = datetime.now(UTC)
            await service.store.change(ended, lambda case: cancel(case, now))
            await service.store.delete(foreign)  # as if another service on the cluster had it
            other = Replica("replica_other", service.store, service.reconciler)
            await other.release_closed_cases(now)
            assert await graphs.held() >= {ended}, "it may be about to be released in order"
            await other.release_closed_cases(now + timedelta(minutes=10))
            assert await graphs.held() == {str(one.answer["id"]) for one in created[1:]}
            assert {key.split("-")[1] for key in await states(settings.scheduler)} == await graphs.held()


async def test_a_case_that_another_process_ended_is_over_in_every_one(
    cluster: str, tmp_path: Path, video: bytes
) -> None:
    """The process that looked after a case kept its futures, and with them the graph, for ever after a cancellation
    that reached another one.
    """

    async def body() -> AsyncIterator[bytes]:
        yield video

    settings = settings_in(tmp_path, scheduler=cluster)
    async with assembled(settings) as one, assembled(settings) as other:
        await until(lambda: one.reconciler.cells.up and other.reconciler.cells.up)
        created = await one.cases.create(NewCase("recorded", None, {}), None, by="test")
        case = await one.store.get(str(created.answer["id"]))
        await one.cases.upload(case, "front", "video/mp4", len(video), body(), by="test")
        async with asyncio.timeout(60):  # until all that can be done of it is done
            while (await one.store.get(case.id)).steps["front"].state != "retake":
                await asyncio.sleep(0.1)
        assert one.reconciler.tracked_case_ids == [case.id]
        await other.cases.cancel(case.id, by="test")
        await until(lambda: one.reconciler.tracked_case_ids == [])
        async with asyncio.timeout(20):
            while any(case.id in key for key in await states(cluster)):
                await asyncio.sleep(0.1)
