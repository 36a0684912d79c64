"""A worker of another build gets no work: it would judge by other rules."""

from __future__ import annotations

import asyncio

import pytest
from distributed import Client, Future, LocalCluster, Worker

from workers.build import METRIC, build
from workers.cluster import labels
from workers.uploads import UploadPlugin

pytestmark = pytest.mark.cluster


def told(worker_build: str) -> dict[str, object]:
    """Options of a CPU worker that reports this build, as `workers.preload` does."""
    return {"resources": {"CPU": 1}, "nthreads": 1, "metrics": {METRIC: lambda _worker: worker_build}}


@pytest.mark.parametrize("first", ["the worker", "the service"])
async def test_a_worker_of_another_build_gets_no_work(first: str) -> None:
    async with (
        LocalCluster(n_workers=0, processes=False, asynchronous=True, dashboard_address=":0") as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        if first == "the service":
            await client.register_plugin(UploadPlugin())
        async with Worker(cluster.scheduler_address, name="old", **told("0.0.1+other")) as old:  # type: ignore[arg-type]
            if first == "the worker":
                await client.register_plugin(UploadPlugin())
            assert await labels(client) == {}
            waiting: Future[int] = client.submit(sum, [1, 2], resources={"CPU": 1})
            await asyncio.sleep(0.3)
            assert not waiting.done()
            async with Worker(cluster.scheduler_address, name="new", **told(build())) as new:  # type: ignore[arg-type]
                assert await waiting == 3
                assert await labels(client) == {new.address: "CPU"}
                assert waiting.key in new.data
                assert not old.data


def test_the_build_names_version_and_code() -> None:
    version, _, digest = build().partition("+")
    assert version
    assert len(digest) == 12
    assert int(digest, 16) >= 0
