"""The load reported by a real scheduler: open cases do not count, tasks that could run do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
from distributed import Client, Future, Scheduler, Worker

from tests.support.blocked_graphs import blocked_sum, submit, until_blocked
from workers.cluster import connect
from workers.errors import ClusterError
from workers.load import LabelLoad, LoadPlugin, read_load
from workers.placement import CPU, GPU, Label

pytestmark = pytest.mark.cluster
GO = threading.Event()


def hold() -> int:
    """A task that runs until the test releases it. The workers are threads of this process."""
    GO.wait(30)
    return 1


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    """A scheduler on loopback without workers."""
    GO.clear()
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        yield scheduler
        GO.set()


@pytest.fixture
async def client(scheduler: Scheduler) -> AsyncIterator[Client]:
    """Connected as the service connects."""
    client = await connect(scheduler.address)
    yield client
    GO.set()
    await client.close()


def worker(scheduler: Scheduler, label: Label, slots: int, name: str) -> Worker:
    return Worker(scheduler.address, name=name, nthreads=slots, resources={label: slots}, host="127.0.0.1")


def ask(client: Client, count: int, label: Label) -> list[Future[int]]:
    return [client.submit(hold, resources={label: 1}, pure=False) for _ in range(count)]


async def until(client: Client, label: Label, holds: Callable[[LabelLoad], bool]) -> LabelLoad:
    async with asyncio.timeout(20):
        while not holds(found := (await read_load(client, 5))[label]):
            await asyncio.sleep(0.02)
    return found


async def test_work_that_no_worker_can_do_is_runnable_by_its_label(client: Client) -> None:
    held = [*ask(client, 3, GPU), *ask(client, 1, CPU)]
    gpu = await until(client, GPU, lambda load: load.runnable == 3)
    assert (gpu.waiting, gpu.slots, gpu.busy, gpu.workers, gpu.idle) == (3, 0, 0, 0, ())
    cpu = await until(client, CPU, lambda load: load.oldest_s > 0.05)
    assert (cpu.runnable, cpu.waiting) == (1, 1)
    assert len(held) == 4


async def test_slots_waiting_and_age(client: Client, scheduler: Scheduler) -> None:
    async with worker(scheduler, CPU, 2, "cpu-0"), worker(scheduler, GPU, 4, "gpu-0"):
        started = time.monotonic()
        running = ask(client, 2, CPU)
        full = await until(client, CPU, lambda load: load.busy == 2)
        assert (full.runnable, full.waiting, full.oldest_s, full.slots, full.workers) == (2, 0, 0.0, 2, 1)
        await asyncio.sleep(1.2)  # wait for the heartbeats, which report the running tasks
        more = ask(client, 5, CPU)
        load = await until(client, CPU, lambda load: load.runnable == 7 and load.oldest_s > 0.2)
        assert (load.waiting, load.busy, load.idle) == (5, 2, ())
        assert load.oldest_s < time.monotonic() - started - 1.0, "the running ones are older and do not wait"
        assert (await read_load(client, 5))[GPU].idle[0].name == "gpu-0"
        GO.set()
        assert sum([await future for future in [*running, *more]]) == 7
        rest = await until(client, CPU, lambda load: load.runnable == 0)
        assert (rest.waiting, rest.busy, rest.oldest_s) == (0, 0, 0.0)
        assert [idle.name for idle in rest.idle] == ["cpu-0"]
        assert rest.idle[0].idle_s < time.monotonic() - started - 1.4, "idle since its last task, not since it came"


async def test_a_worker_that_is_being_retired_offers_nothing(client: Client, scheduler: Scheduler) -> None:
    async with worker(scheduler, CPU, 1, "cpu-0"), worker(scheduler, CPU, 1, "cpu-1") as second:
        await until(client, CPU, lambda load: load.slots == 2)
        await client.retire_workers([second.address], close_workers=False, remove=False)
        load = await until(client, CPU, lambda load: load.slots == 1)
        assert (load.workers, [idle.name for idle in load.idle]) == (1, ["cpu-0"])


async def test_open_cases_are_no_work_and_cost_nothing(client: Client, scheduler: Scheduler) -> None:
    """`adaptive_target` counts the gates; whoever scales by it pays a worker for every few people who have not filmed.

    What a task costs here is one entry while it is runnable: none of these has one, so the answer cannot grow.
    """
    held = []
    gates = []
    for case in range(250):
        graph, total, uploads = blocked_sum(f"open{case}", gates=4)
        held.append(submit(client, graph, total))
        gates += uploads
    await until_blocked(client, gates)
    assert len(scheduler.tasks) == 2250
    plugin = scheduler.plugins[LoadPlugin.name]
    assert isinstance(plugin, LoadPlugin)
    assert plugin.since == {CPU: {}, GPU: {}}
    assert (await read_load(client, 5))[CPU] == LabelLoad()
    assert len(held) == 250


async def test_an_upload_makes_its_dependents_runnable(client: Client, scheduler: Scheduler) -> None:
    async with worker(scheduler, GPU, 1, "gpu-0"):
        graph, total, uploads = blocked_sum("a", gates=3)
        future = submit(client, graph, total)
        await until_blocked(client, uploads)
        assert (await read_load(client, 5))[CPU].runnable == 0
        kept = await client.scatter({uploads[0]: b"four"}, hash=False)
        load = await until(client, CPU, lambda load: load.runnable > 0)
        assert (load.runnable, load.waiting, load.workers) == (1, 1, 0)
        future.release()
        await until(client, CPU, lambda load: load.runnable == 0)
        assert len(kept) == 1


async def test_a_plugin_that_comes_late_counts_what_is_there(scheduler: Scheduler) -> None:
    async with Client(scheduler.address, asynchronous=True, set_as_default=False) as early:
        held = ask(early, 4, CPU)
        while len(scheduler.tasks) < 4:
            await asyncio.sleep(0.01)
        client = await connect(scheduler.address)
        assert (await read_load(client, 5))[CPU].runnable == len(held)
        await client.close()


async def test_a_scheduler_that_is_away_or_another_is_an_error_that_says_so(scheduler: Scheduler) -> None:
    async with Client(scheduler.address, asynchronous=True, set_as_default=False) as plain:
        with pytest.raises(ClusterError, match="lacks the load plugin"):
            await read_load(plain, 5)
    with pytest.raises(ClusterError, match="not connected"):
        await read_load(plain, 0.3)
