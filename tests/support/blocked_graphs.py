"""Small graphs that wait for uploads, on a real scheduler."""

from __future__ import annotations

import asyncio

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import Task, TaskRef
from distributed import Client, Future

from workers.placement import UPLOAD_RESOURCE
from workers.uploads import missing_upload


def blocked_sum(case: str, gates: int = 2) -> tuple[HighLevelGraph, str, list[str]]:
    uploads = [f"upload-{case}-{i}" for i in range(gates)]
    waiting = MaterializedLayer(
        {key: Task(key, missing_upload) for key in uploads}, annotations={"resources": {UPLOAD_RESOURCE: 1}}
    )
    lengths = {f"length-{case}-{i}": Task(f"length-{case}-{i}", len, TaskRef(key)) for i, key in enumerate(uploads)}
    total = f"total-{case}"
    tasks = {**lengths, total: Task(total, lambda *parts: sum(parts), *map(TaskRef, lengths))}
    work = MaterializedLayer(tasks, annotations={"resources": {"CPU": 1}})
    return HighLevelGraph({"gates": waiting, "work": work}, {"gates": set(), "work": {"gates"}}), total, uploads


def submit(client: Client, graph: HighLevelGraph, key: str) -> Future[int]:
    future: Future[int] = client.get(graph, key, sync=False)
    return future


async def states(client: Client, keys: list[str]) -> list[str]:
    def read(dask_scheduler: object) -> list[str]:
        return [t.state if (t := dask_scheduler.tasks.get(k)) else "unknown" for k in keys]  # type: ignore[attr-defined]

    found: list[str] = await client.run_on_scheduler(read)
    return found


async def until_blocked(client: Client, keys: list[str]) -> None:
    while await states(client, keys) != ["no-worker"] * len(keys):
        await asyncio.sleep(0.01)
