"""The connection to the scheduler, on a real cluster: kept while it is good, and given up when its news stops."""

from __future__ import annotations

import asyncio

import pytest
from distributed import Client

from service.link import ClusterLink

pytestmark = pytest.mark.cluster


async def test_a_connection_whose_news_stops_is_made_anew(cluster: str) -> None:
    """Once questions were answered and results did not come: cases were taken and never decided, and nobody saw it."""
    made: asyncio.Queue[Client] = asyncio.Queue()
    downs: list[str] = []
    link = ClusterLink(cluster, 3.0, made.put, lambda: downs.append("down"))
    await link.start()
    try:
        first = await made.get()
        await asyncio.sleep(5)
        assert (downs, link.is_up) == ([], True), "a connection that is good is kept"
        reader = first._handle_report_task  # reads the stream from the scheduler, and nothing else
        assert reader is not None
        reader.cancel()
        async with asyncio.timeout(60):
            second = await made.get()
        assert downs == ["down"]
        assert await second.submit(sum, [1, 2], resources={"CPU": 1}) == 3
    finally:
        await link.close()
