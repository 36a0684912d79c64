"""The core of the design: scattering media under an upload's key starts the tasks that wait for it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from distributed import Client, Future, LocalCluster, wait

from graphs.case import result_of
from tests.support.blocked_graphs import blocked_sum, states, submit, until_blocked
from workers.errors import LabelError, UntestedBuildError
from workers.placement import label_of
from workers.uploads import RetainedGraphs, UploadPlugin, require_tested_build

pytestmark = pytest.mark.cluster


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A real cluster with two workers in this process, with the plugin."""
    async with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            resources={"CPU": 1},
            asynchronous=True,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        await client.register_plugin(UploadPlugin())
        yield client


@pytest.mark.parametrize("direct", [True, False])
async def test_scatter_releases_the_waiting_graph(client: Client, direct: bool) -> None:
    graph, total, uploads = blocked_sum("a")
    future = submit(client, graph, total)
    await until_blocked(client, uploads)
    await client.scatter({uploads[0]: b"four"}, hash=False, direct=direct)
    await asyncio.sleep(0.1)
    assert not future.done()
    await client.scatter({uploads[1]: b"seven77"}, hash=False, direct=direct)
    assert await future == 11


async def test_stock_update_data_leaves_dependents_waiting(client: Client) -> None:
    """The reason for the plugin. If this fails, `distributed` supports it and the plugin can be removed."""

    def restore(dask_scheduler: object) -> None:
        plugin = dask_scheduler.plugins["veridask-uploads"]  # type: ignore[attr-defined]
        dask_scheduler.update_data = plugin.stock_update_data  # type: ignore[attr-defined]
        dask_scheduler.handlers["update_data"] = plugin.stock_update_data  # type: ignore[attr-defined]

    await client.run_on_scheduler(restore)
    graph, total, uploads = blocked_sum("b")
    future = submit(client, graph, total)
    await until_blocked(client, uploads)
    held = await client.scatter(dict.fromkeys(uploads, b"x"), hash=False)
    await asyncio.sleep(0.5)
    assert held
    assert not future.done()


async def test_scatter_twice_and_submit_twice_change_nothing(client: Client) -> None:
    graph, total, uploads = blocked_sum("c")
    future = submit(client, graph, total)
    again = submit(client, graph, total)
    await until_blocked(client, uploads)
    for _ in range(2):
        await client.scatter(dict.fromkeys(uploads, b"xy"), hash=False)
    assert await future == await again == 4


async def test_scatter_before_the_graph_is_known(client: Client) -> None:
    """An upload can reach the scheduler before its graph; the graph then uses it like any scattered data."""
    graph, total, uploads = blocked_sum("d")
    held = await client.scatter(dict.fromkeys(uploads, b"xyz"), hash=False)
    assert await submit(client, graph, total) == 6
    assert len(held) == 2


async def test_retaining_answers_when_the_graph_is_known(client: Client) -> None:
    """Regression: a retake released the old graph before the scheduler had the new one, and shared work was redone."""
    graph, total, uploads = blocked_sum("s", gates=40)
    answer = asyncio.create_task(RetainedGraphs(client).retain("s", [total]))
    await asyncio.sleep(0.1)
    assert not answer.done()
    future = submit(client, graph, total)
    assert await asyncio.wait_for(answer, 10)
    assert await states(client, [uploads[0], total]) == ["no-worker", "waiting"]
    future.release()


async def test_a_held_graph_outlives_the_client_that_submitted_it(client: Client) -> None:
    """Regression: when an API replica died, the graphs of its open cases were lost."""
    assert client.cluster is not None
    graph, total, uploads = blocked_sum("h")
    async with Client(client.cluster, asynchronous=True, set_as_default=False) as dies:
        future = submit(dies, graph, total)
        assert await RetainedGraphs(dies).retain("h", [total])
        future.release()
    assert await states(client, [*uploads, total]) == ["no-worker", "no-worker", "waiting"]
    assert await RetainedGraphs(client).case_ids() == {"h"}
    assert await RetainedGraphs(client).waiting([*uploads, "unknown"]) == set(uploads)
    await client.scatter(dict.fromkeys(uploads, b"xy"), hash=False, direct=True)
    assert await RetainedGraphs(client).waiting(uploads) == set()
    result: Future[int] = client.get({}, total, sync=False)
    assert await result == 4
    result.release()
    assert await states(client, [total]) == ["memory"]
    await RetainedGraphs(client).release("h")
    await RetainedGraphs(client).release("h")
    while await states(client, [*uploads, total]) != ["unknown"] * 3:
        await asyncio.sleep(0.02)
    assert await RetainedGraphs(client).case_ids() == set()


async def test_holding_other_keys_lets_the_first_go(client: Client) -> None:
    first, second = blocked_sum("r1"), blocked_sum("r2")
    futures = [submit(client, graph, total) for graph, total, _ in (first, second)]
    await RetainedGraphs(client).retain("r", [first[1]])
    await RetainedGraphs(client).retain("r", [second[1]])
    for future in futures:
        future.release()
    while await states(client, [first[1], second[1]]) != ["unknown", "waiting"]:
        await asyncio.sleep(0.02)


async def test_upload_lost_with_its_worker_can_be_scattered_again(client: Client) -> None:
    """The key has a run_spec, so it returns to `no-worker` and its dependents are not forgotten."""
    graph, total, uploads = blocked_sum("e")
    future = submit(client, graph, total)
    await until_blocked(client, uploads)
    await client.scatter({uploads[0]: b"four"}, hash=False)
    while await states(client, ["length-e-0"]) != ["memory"]:
        await asyncio.sleep(0.01)

    async def lose_holder(dask_scheduler: object) -> None:
        holder = next(iter(dask_scheduler.tasks["length-e-0"].who_has))  # type: ignore[attr-defined]
        await dask_scheduler.remove_worker(holder.address, stimulus_id="lost")  # type: ignore[attr-defined]

    await client.run_on_scheduler(lose_holder)
    assert await states(client, [uploads[0], "length-e-0", total]) == ["no-worker", "waiting", "waiting"]
    await client.scatter({uploads[0]: b"four", uploads[1]: b"seven77"}, hash=False)
    assert await future == 11


async def test_blocked_graphs_hold_no_worker_and_release_leaves_nothing(client: Client) -> None:
    futures, all_uploads = [], []
    for case in range(200):
        graph, total, uploads = blocked_sum(f"open{case}")
        futures.append(submit(client, graph, total))
        all_uploads += uploads
    await until_blocked(client, all_uploads)
    graph, total, uploads = blocked_sum("quick")
    quick = submit(client, graph, total)
    await until_blocked(client, uploads)
    await client.scatter(dict.fromkeys(uploads, b"12345"), hash=False)
    assert await quick == 10
    for future in [*futures, quick]:
        future.release()
    while await states(client, all_uploads + uploads) != ["unknown"] * (len(all_uploads) + 2):
        await asyncio.sleep(0.02)


def test_an_untested_distributed_is_refused() -> None:
    require_tested_build()
    with pytest.raises(UntestedBuildError, match=r"1999\.1\.0 is not tested"):
        require_tested_build("1999.1.0")


@pytest.mark.parametrize(
    "resources", [{}, {"CPU": 1.0, "GPU": 1.0}, {"MEMORY": 3.0}, {"CPU": 2.0, "UPLOAD": 1.0}, {"CPU": 0.0}]
)
def test_a_worker_needs_exactly_one_label(resources: dict[str, float]) -> None:
    with pytest.raises(LabelError, match="exactly one of CPU and GPU"):
        label_of(resources)
    assert label_of({"CPU": 8.0}) == "CPU"
    assert label_of({"GPU": 16.0}) == "GPU"


async def test_who_stops_waiting_stops_nobody_else(client: Client) -> None:
    """Three steps taken again within a moment left an API process that decided nothing any more: a transfer that was
    cancelled before it had begun was waited for by all who came after it.
    """
    first, second = client.submit(len, "one"), client.submit(len, "three")
    await asyncio.gather(result_of(first), result_of(second))
    for steps in range(12):  # cancel at every possible point
        waiting = asyncio.create_task(result_of(first))
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(20):
            assert await result_of(second) == 5


async def test_who_stops_waiting_leaves_nothing_behind(client: Client) -> None:
    """No task is left waiting, and asyncio logs no exception that was never retrieved."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    graph, total, _ = blocked_sum("abandoned")
    never, broken = submit(client, graph, total), client.submit(int, "no number")
    await wait([broken])
    before = asyncio.all_tasks()
    for future in (never, broken):
        for steps in range(12):
            waiting = asyncio.create_task(result_of(future))
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    never.release()
    async with asyncio.timeout(20):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
    gc.collect()
    assert said == []
